"""What became of every tensor, on both sides: nothing is taken, left or made up in silence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from kinemix.errors import CheckpointError
from kinemix.models.foreign.layout import counts_batches

Fate = Literal["matched", "renamed", "reshaped", "filled in", "harmless", "missing", "left over"]

_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.", "aux_classifier.")
"""Second classifiers that only training has."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tensor.

    Attributes:
        fate: ``matched`` has one name on both sides, ``renamed`` two, ``reshaped`` two shapes; ``filled in``
            follows from the layout without standing in the file; ``harmless`` stands on one side alone and
            changes no answer; ``missing`` is not in the file, ``left over`` not in the network.
        ours, theirs: names in the network (without the wrappers of its temporal modules) and in the file.
        shape, their_shape: likewise.
    """

    fate: Fate
    ours: str | None = None
    theirs: str | None = None
    shape: tuple[int, ...] | None = None
    their_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Report:
    """Every tensor of the network and of the file."""

    rows: tuple[Row, ...]

    def names(self, fate: Fate) -> list[str]:
        """Names of the tensors of one fate, ours where there are two."""
        return [str(row.ours or row.theirs) for row in self.rows if row.fate == fate]

    def count(self) -> dict[str, int]:
        """How many tensors had each fate, the commonest first."""
        return dict(Counter(row.fate for row in self.rows).most_common())

    def check(self, *, allow_missing: bool = False, allow_extra: bool = False) -> None:
        """Raise unless every tensor found its place, or its lack is allowed.

        Raises:
            CheckpointError: names how many and the first of them.
        """
        faults = []
        if (names := self.names("missing")) and not allow_missing:
            faults.append(f"{_count(names)} of the network not in the file (--allow_missing)")
        if (names := self.names("left over")) and not allow_extra:
            faults.append(f"{_count(names)} of the file not in the network (--allow_extra)")
        if faults:
            raise CheckpointError(
                f"the file does not fit the network: {'; '.join(faults)}: name the network with --model, or allow it"
            )


def compare(
    wanted: Mapping[str, Tensor], translated: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Report]:
    """Match the file's tensors with the network's.

    Args:
        wanted: the network's, by plain name.
        translated: the file's, by the network's plain names; views of those in ``found``, or new ones.
        found: the file's as it names them; each has memory of its own, which is how a translated tensor is
            known again.

    Returns:
        The tensors to load, by plain name and in the network's shapes, and what became of each.
    """
    origins = {_identify(tensor): name for name, tensor in found.items()}
    rows: list[Row] = []
    fitting: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        shape, given = tuple(tensor.shape), translated.get(name)
        if given is None or _squeeze(given.shape) != _squeeze(shape):
            rows.append(Row(fate="harmless" if counts_batches(name) else "missing", ours=name, shape=shape))
            continue
        fitting[name] = given.reshape(shape)
        theirs = origins.pop(_identify(given), None)
        their_shape = None if theirs is None else tuple(found[theirs].shape)
        rows.append(
            Row(
                fate=_judge(name, theirs, reshaped=their_shape != shape),
                ours=name,
                theirs=theirs,
                shape=shape,
                their_shape=their_shape,
            )
        )
    for theirs in origins.values():
        fate: Fate = "harmless" if counts_batches(theirs) or theirs.startswith(_AUXILIARY) else "left over"
        rows.append(Row(fate=fate, theirs=theirs, their_shape=tuple(found[theirs].shape)))
    return fitting, Report(tuple(rows))


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}, such as {names[0]!r},"


def _judge(ours: str, theirs: str | None, *, reshaped: bool) -> Fate:
    if theirs is None:
        return "filled in"
    if reshaped:
        return "reshaped"
    return "matched" if ours == theirs else "renamed"


def _identify(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its ones: what tells two layouts of the same numbers from two kinds of tensors."""
    return tuple(side for side in shape if side != 1)


def report_to_dict(report: Report) -> dict[str, Any]:
    """What JSON can hold: ``counts`` by fate, and ``tensors``, one dictionary a row."""
    return {
        "counts": report.count(),
        "tensors": [
            {
                "fate": row.fate,
                "ours": row.ours,
                "theirs": row.theirs,
                "shape": row.shape and list(row.shape),
                "their_shape": row.their_shape and list(row.their_shape),
            }
            for row in report.rows
        ],
    }
