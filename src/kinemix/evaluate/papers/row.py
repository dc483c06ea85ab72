"""One printed row of a paper's table, as data: what it says, and how its network is made here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Paper = Literal["mixtconv", "gsm", "ctm", "mtnet", "x3d"]

Unit = Literal["MACs", "2 x MACs", "unclear"]
"""What a paper counts when it prints FLOPs; unclear where no reading gives its numbers."""

NUM_CLASSES = {
    "Something-Something v1": 174,
    "Something-Something v2": 174,
    "Jester": 27,
    "Kinetics-400": 400,
    "Kinetics-600": 600,
    "Kinetics-700": 700,
    "Mini-Kinetics-200": 200,
    "Moments in Time": 339,
    "HACS": 200,
    "UCF-101": 101,
    "HMDB51": 51,
    "Diving48": 48,
}
"""Classes of the datasets that the papers measure on."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row, with every figure as it is printed.

    Attributes:
        paper, table, label: where it stands; the label is the row's own name in the table.
        dataset: what the accuracies were measured on.
        about: the other printed cells (backbone, frames, pre-training).
        model: name of the network for :func:`kinemix.create_model`; ``None`` for a network of others that is
            not built here, which the table only compares with.
        model_options: what the row varies, for the same function.
        num_frames, size: the clip.
        num_classes: of the classifier; ``None`` where there is not one classifier.
        results: column to printed figure: accuracies in percent, times in milliseconds.
        parameters: printed, in millions.
        flops: printed, in thousands of millions, for what one row costs once (``views`` not multiplied).
        unit: what these are.
        views: printed factor on the FLOPs: clips or views a video.
        count_clips: clips a video that the printed FLOPs do include.
        count_classes: size of the classifier that the printed parameters include, where it is not
            ``num_classes``.
        count_size: side of the frames that the printed FLOPs are for, where it is not ``size``.
        members: for an ensemble, frames and clips of every network in it.
        over: a plain network and its printed FLOPs in the same table: the row's own are to be read as what is
            added to these.
        reason: why a printed count cannot be met, or what it takes to meet it.
    """

    paper: Paper
    table: str
    label: str
    dataset: str = ""
    about: str = ""
    model: str | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    num_frames: int | None = None
    size: int | None = None
    num_classes: int | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    parameters: str | None = None
    flops: str | None = None
    unit: Unit = "MACs"
    views: str = ""
    count_clips: int = 1
    count_classes: int | None = None
    count_size: int | None = None
    members: tuple[tuple[int, int], ...] = ()
    over: tuple[str, str] | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """Unique name of the row."""
        return f"{self.paper} {self.table}: {self.label}" + (f" ({self.about})" if self.about else "")

    @property
    def has_count(self) -> bool:
        """Whether parameters or FLOPs are printed."""
        return self.parameters is not None or self.flops is not None
