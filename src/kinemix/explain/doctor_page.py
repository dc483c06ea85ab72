"""The doctor's report as one page: what was found, file by file, the classes, and what reading costs."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from kinemix.data.doctor import SEVERITIES, Examination, Finding
from kinemix.explain.page import Page
from kinemix.explain.palette import COLORS

_ROWS = 200
"""Findings that one table names; beyond, the JSON report holds them all."""

_FILES = 10
"""Files that one row names."""

_BARS = 60
"""Classes that are drawn with their names."""

_MEANINGS = {
    "error": "training loses the video, or learns something false from it",
    "warning": "it may: look at it",
    "note": "worth knowing; handled",
}


def make_page(examination: Examination) -> str:
    """The report as a string of HTML that opens from disk, nothing fetched.

    Args:
        examination: of :func:`kinemix.data.doctor.examine_collection`.
    """
    page = Page(f"What the doctor found in {examination.source}")
    _add_summary(page, examination)
    for severity in SEVERITIES:
        findings = [finding for finding in examination.findings if finding.severity == severity]
        if findings:
            page.add_heading(f"{severity.capitalize()}s: {_MEANINGS[severity]}")
            _add_findings(page, findings)
    if examination.classes:
        page.add_heading("Classes")
        page.add_figures((plot_classes(examination), "Samples of each class, by part of the split."))
    if examination.cost is not None:
        _add_cost(page, examination)
    _add_formats(page, examination)
    return page.render()


def _add_summary(page: Page, examination: Examination) -> None:
    counts = Counter(finding.severity for finding in examination.findings)
    readable = sum(record.status == "readable" for record in examination.records)
    page.add_table(
        ("samples", "videos", "examined", "readable", "errors", "warnings", "notes"),
        [
            tuple(
                str(number)
                for number in (
                    examination.num_samples,
                    examination.num_videos,
                    len(examination.records),
                    readable,
                    *(counts[severity] for severity in SEVERITIES),
                )
            )
        ],
    )
    rate = len(examination.records) / max(1e-9, examination.seconds)
    page.add_text(
        f"Examined in {examination.seconds:.1f} s, {rate:.1f} videos a second, by {examination.workers} processes."
    )


def _add_findings(page: Page, findings: Sequence[Finding]) -> None:
    """A paragraph and a table for every kind; a finding about several files is one row."""
    for kind in dict.fromkeys(finding.kind for finding in findings):
        alike = [finding for finding in findings if finding.kind == kind]
        page.add_text(f"{kind} ({len(alike)}): {alike[0].cure}.")
        page.add_table(("file", "found"), [(_name_files(f.files), f.value) for f in alike[:_ROWS]])
        if len(alike) > _ROWS:
            page.add_text(f"And {len(alike) - _ROWS} more; the JSON report names them all.")


def _name_files(files: Sequence[str]) -> str:
    more = f" and {len(files) - _FILES} more" if len(files) > _FILES else ""
    return ", ".join(files[:_FILES]) + more


def plot_classes(examination: Examination) -> Figure:
    """Samples of each class, the largest first, parts stacked."""
    ordered = sorted(examination.classes.items(), key=lambda item: -sum(item[1].values()))
    parts = sorted({part for _, counts in ordered for part in counts})
    figure = Figure(figsize=(9, min(12.0, 1.2 + 0.22 * min(len(ordered), _BARS))), layout="constrained")
    axes = figure.subplots()
    left = [0] * len(ordered)
    for part, color in zip(parts, COLORS, strict=False):
        widths = [counts.get(part, 0) for _, counts in ordered]
        axes.barh(range(len(ordered)), widths, left=left, color=color, label=part or "no part")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="samples")
    if len(ordered) <= _BARS:
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=8)
    else:
        axes.set(ylabel=f"{len(ordered)} classes")
    axes.spines[["top", "right"]].set_visible(False)
    if parts:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _add_cost(page: Page, examination: Examination) -> None:
    cost = examination.cost
    assert cost is not None
    page.add_heading("What reading costs")
    page.add_text(
        f"To read {cost.num_frames} frames of every sample once takes about {cost.epoch_seconds:.0f} s with "
        f"{cost.workers} workers on this machine as busy as it was. Most of it goes into {cost.bottleneck}: "
        + ", ".join(f"{name} {share:.0%}" for name, share in cost.shares.items())
        + ". Decode is of frames that are used, seek is decoding others to reach them."
    )
    page.add_table(
        ("format", "samples", "kB a file", "key frames apart", "frames decoded", "ms a clip", "ms from disk"),
        [
            (
                kind.name,
                str(kind.num_samples),
                f"{kind.num_bytes / 1000:.0f}",
                "-" if kind.key_interval is None else f"{kind.key_interval:.0f}",
                f"{kind.decoded:.0f}",
                f"{1000 * kind.seconds:.1f}",
                f"{1000 * kind.disk_seconds:.1f}",
            )
            for kind in cost.formats
        ],
    )


def _add_formats(page: Page, examination: Examination) -> None:
    page.add_heading("Kinds of file")
    counts = Counter(
        (record.format, record.pixel_format, f"{record.frame_rate or 0:.4g}")
        for record in examination.records
        if record.status == "readable"
    )
    rows = [(*kind, str(count)) for kind, count in counts.most_common(40)]
    page.add_table(("format", "pixel format", "frames a second", "videos"), rows)
