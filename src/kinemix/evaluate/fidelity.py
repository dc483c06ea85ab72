"""Where we stand against every published count: each printed number beside ours, and why where they differ.

Nothing is typed: the rows come from :mod:`kinemix.evaluate.papers`, ours from the networks themselves on the
meta device, so the table can be made again by anyone, with the same result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import torch

from kinemix.evaluate.complexity import measure_complexity
from kinemix.evaluate.markdown import format_table
from kinemix.evaluate.papers import TITLES, Row
from kinemix.models.factory import create_model

Verdict = Literal["exact", "within 1 %", "differs", "not ours"]
"""``exact``: the same when rounded as printed. ``not ours``: a network of others, not built here."""

TOLERANCE = 0.01
"""Counts that differ by no more are within what conventions explain."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row's printed counts beside ours.

    Attributes:
        row: what is printed.
        parameters, macs: ours, counted as the row was (its classes, its clips, all members of an ensemble);
            ``None`` for a network of others.
        plain_parameters: with the classifier of the row's own dataset.
        parameters_verdict, macs_verdict: ``None`` where nothing is printed.
    """

    row: Row
    parameters: int | None = None
    plain_parameters: int | None = None
    macs: int | None = None

    @property
    def published_macs(self) -> float | None:
        """The printed FLOPs as multiply-adds; an unclear unit is read as MACs."""
        if self.row.flops is None:
            return None
        return float(self.row.flops) * 1e9 / (2 if self.row.unit == "2 x MACs" else 1)

    @property
    def parameters_ratio(self) -> float | None:
        """Ours over the printed."""
        if self.parameters is None or self.row.parameters is None:
            return None
        return self.parameters / (float(self.row.parameters) * 1e6)

    @property
    def macs_ratio(self) -> float | None:
        """Ours over the printed."""
        published = self.published_macs
        return None if self.macs is None or published is None else self.macs / published

    @property
    def parameters_verdict(self) -> Verdict | None:
        if self.row.parameters is None:
            return None
        ours = None if self.parameters is None else self.parameters / 1e6
        return _judge(self.row.parameters, ours)

    @property
    def macs_verdict(self) -> Verdict | None:
        if self.row.flops is None:
            return None
        scale = 5e8 if self.row.unit == "2 x MACs" else 1e9
        return _judge(self.row.flops, None if self.macs is None else self.macs / scale)


def compare_row(row: Row) -> Comparison:
    """Count a row's network the way that the row was counted. Nothing is computed, whatever its size.

    Raises:
        ConfigError: there is no such network or option.
    """
    if row.model is None or row.num_classes is None:
        return Comparison(row=row)
    members = row.members or ((row.num_frames or 8, row.count_clips),)
    parameters = macs = 0
    for num_frames, clips in members:
        count = _count(row, num_frames, row.count_classes or row.num_classes, row.count_size or row.size)
        parameters += count[0]
        macs += clips * count[1]
    plain = _count(row, members[0][0], row.num_classes, row.count_size or row.size)
    return Comparison(row=row, parameters=parameters, macs=macs, plain_parameters=plain[0] * len(members))


def compare_rows(rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> list[Comparison]:
    """Compare many rows: those with a printed count; of a paper that prints none, those of our networks.

    Args:
        rows: of :func:`kinemix.evaluate.list_rows`.
        progress: told how many rows are done.
    """
    counting = {row.paper for row in rows if row.has_count}
    compared = []
    for done, row in enumerate(rows, start=1):
        if row.has_count or (row.paper not in counting and row.model is not None):
            compared.append(compare_row(row))
        if progress is not None:
            progress(done)
    return compared


def _count(row: Row, num_frames: int, num_classes: int, size: int | None) -> tuple[int, int]:
    options = tuple(sorted(row.model_options.items()))
    return _count_network(row.model or "", options, num_frames, num_classes, size)


@cache
def _count_network(
    name: str, options: tuple[tuple[str, Any], ...], num_frames: int, num_classes: int, size: int | None
) -> tuple[int, int]:
    """Parameters and multiply-adds of one network; many rows share one."""
    with torch.device("meta"):
        model = create_model(
            name, num_classes=num_classes, num_frames=num_frames, input_size=size, **dict(options)
        )
    cost = measure_complexity(model)
    return cost.parameters, cost.macs


def _judge(printed: str, ours: float | None) -> Verdict:
    if ours is None:
        return "not ours"
    decimals = len(printed.partition(".")[2])
    if round(ours, decimals) == float(printed):
        return "exact"
    return "within 1 %" if abs(ours / float(printed) - 1) <= TOLERANCE else "differs"


# ------------------------------------------------------------------------------------------------ as a page

_HEADINGS = (
    *("table", "row", "network here", "clip"),
    *("M params, printed", "ours", "ratio", "GFLOPs, printed", "unit", "GMACs, ours", "ratio"),
    *("verdict: params", "MACs", "remark"),
)

_PREFACE = """# Where we stand against the published counts

Made by `make fidelity` (`kinemix complexity --papers --markdown docs/fidelity.md`); a test holds this file to
the networks. Do not edit it.

- Parameters are in millions. MACs are multiply-adds of convolutions, linear layers and recurrent cells in
  thousands of millions, for what the row prints (one view; where the printed FLOPs include several clips or
  networks, so do ours). The column *unit* says what the paper counted under the name of FLOPs; the ratio is
  ours over theirs in the same unit.
- *exact*: the same when rounded as printed. *within 1 %*: the rest is a matter of what is counted. *differs*:
  the remark says why. *not ours*: a network of others that the table compares with and that is not built here.
- The papers' rows without counts are listed by `kinemix list --papers`. Accuracies are in `docs/results.md`.
"""


def write_fidelity(compared: Sequence[Comparison]) -> str:
    """The page ``docs/fidelity.md``: one Markdown table a paper."""
    parts = [_PREFACE]
    for paper, title in TITLES.items():
        own = [c for c in compared if c.row.paper == paper]
        if not own:
            continue
        parts.append(f"## {title}\n\n" + _summarise(own) + "\n")
        parts.append(format_table(_HEADINGS, [list_cells(c) for c in own]))
    return "\n".join(parts)


def list_cells(comparison: Comparison) -> tuple[str, ...]:
    """One row of the table, in the order of its headings, as text."""
    row = comparison.row
    clip = f"{'+'.join(str(f) for f, _ in row.members) or row.num_frames} x {row.count_size or row.size} px"
    return (
        row.table,
        f"{row.label}, {row.about}" if row.about else row.label,
        describe_network(row),
        clip if row.model else "",
        row.parameters or "",
        _format(comparison.parameters, 1e6),
        _format_ratio(comparison.parameters_ratio),
        (row.flops or "") + (f" x {row.views}" if row.views else ""),
        row.unit if row.flops and row.model else "",
        _format(comparison.macs, 1e9),
        _format_ratio(comparison.macs_ratio),
        comparison.parameters_verdict or "",
        comparison.macs_verdict or "",
        explain(comparison),
    )


def describe_comparison(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain data, JSON-able."""
    return {
        "row": asdict(comparison.row),
        "network": describe_network(comparison.row) or None,
        "parameters": comparison.parameters,
        "parameters_ratio": comparison.parameters_ratio,
        "parameters_verdict": comparison.parameters_verdict,
        "macs": comparison.macs,
        "macs_ratio": comparison.macs_ratio,
        "macs_verdict": comparison.macs_verdict,
        "remark": explain(comparison),
    }


def describe_network(row: Row) -> str:
    """The model's name with its options; empty for a network of others."""
    return describe_model(row.model or "", row.model_options)


def describe_model(name: str, options: Mapping[str, Any]) -> str:
    """A model's name with its options, in one line."""
    return " ".join([name, *(f"{option}={_plain(value)}" for option, value in options.items())])


def _plain(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(map(_plain, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def explain(comparison: Comparison) -> str:
    """What there is to say about a row's counts: how they were met, or why they cannot be."""
    row = comparison.row
    verdicts = (comparison.parameters_verdict, comparison.macs_verdict)
    remarks = []
    if row.count_classes is not None and comparison.plain_parameters is not None:
        millions = comparison.plain_parameters / 1e6
        remarks.append(
            f"counted with {row.count_classes} classes; with {row.num_classes} it is {millions:.3f} M"
        )
    if row.over is not None and row.flops is not None and comparison.macs is not None:
        plain, printed = row.over
        base = compare_row(replace(row, model=plain, model_options={}, over=None))
        added = comparison.macs - (base.macs or 0)
        difference = float(row.flops) - float(printed)
        remarks.append(f"adds {added / 1e9:.3f} G to {plain}, printed {difference:.2f}")
    if row.reason and (row.count_classes is None or "differs" in verdicts):
        remarks.append(row.reason)
    return "; ".join(remarks)


def _summarise(compared: Sequence[Comparison]) -> str:
    verdicts = [
        v for c in compared for v in (c.parameters_verdict, c.macs_verdict) if v not in (None, "not ours")
    ]
    if not verdicts:
        return "The paper prints no counts; these are ours, with our choices where it is silent."
    count = {v: verdicts.count(v) for v in ("exact", "within 1 %", "differs")}
    return (
        f"Of {len(verdicts)} printed counts of networks built here: "
        + ", ".join(f"{number} {verdict}" for verdict, number in count.items())
        + "."
    )


def _format(value: int | None, scale: float) -> str:
    return "" if value is None else f"{value / scale:.3f}"


def _format_ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}"
