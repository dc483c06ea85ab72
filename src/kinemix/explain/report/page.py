"""The report: its sections in order, for one run or several."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from kinemix.config import DataConfig
from kinemix.data.doctor import SEVERITIES, Examination, examine_collection
from kinemix.engine.logbook import FILE_NAME, read_curve
from kinemix.engine.progress import CountBar
from kinemix.engine.run_directory import CONFIG_NAME
from kinemix.engine.tested_run import TestedRun
from kinemix.errors import DataError
from kinemix.evaluate.complexity import measure_complexity
from kinemix.evaluate.ensemble import to_probabilities
from kinemix.explain.compare.comparison import Comparison, compare_runs
from kinemix.explain.compare.order import plot_order
from kinemix.explain.compare.page import add_summary_, describe_single_frames
from kinemix.explain.page import Page
from kinemix.explain.plots import plot_curves
from kinemix.explain.report.clips import choose_clips
from kinemix.explain.report.confusion import render_confusion
from kinemix.explain.report.films import FilmMaker
from kinemix.explain.report.samples import render_samples
from kinemix.models.checkpoint import load_checkpoint

_FINDINGS = 12
"""Files of one kind of finding that are named."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What goes into a report.

    Attributes:
        worst, best: clips of each run that are shown as films.
        latency: time the networks.
        doctor: look at the videos: at their ``headers``, at all of their frames (``full``), or ``none``.
        workers: processes of the doctor.
    """

    worst: int = 12
    best: int = 6
    latency: bool = True
    doctor: Literal["headers", "full", "none"] = "headers"
    workers: int = 2


def write_report(runs: Mapping[str, TestedRun], path: Path, *, options: ReportOptions | None = None) -> Path:
    """Write the page of some runs into a file, whole or not at all.

    Args:
        runs: name -> a run with its tests (:func:`kinemix.engine.tested_run.open_tested_run`).
        path: the file; its folder is made if missing.
        options: what goes into it.

    Raises:
        DataError: the runs were tested on different videos.
    """
    page = Page("Report: " + ", ".join(runs))
    add_report_(page, runs, options=options or ReportOptions())
    path.parent.mkdir(parents=True, exist_ok=True)
    page.write(path)
    return path


def add_report_(page: Page, runs: Mapping[str, TestedRun], *, options: ReportOptions) -> None:
    """Put the sections of a report onto a page, and in front of all that stands there their table of contents.

    Args:
        page: with nothing yet but what is to stand before the report.
        runs, options: as in :func:`write_report`.

    Raises:
        DataError: the runs were tested on different videos.
    """
    comparison = compare_runs(runs, latency=options.latency)
    page.add_style(_read("report.css"))
    page.add_script(_read("report.js"))
    page.add_heading("Summary")
    add_summary_(page, comparison)
    _add_curves(page, runs)
    for name, run in runs.items():
        prefix = f"{name}: " if len(runs) > 1 else ""
        _add_confusion(page, f"{prefix}who is taken for whom", comparison, name)
        _add_clips(page, prefix, run, options)
    if comparison.order:
        page.add_heading("Classes that need order")
        page.add_figures((plot_order(comparison.order), _ORDER))
        if remark := describe_single_frames(comparison):
            page.add_text(remark)
    _add_complexity(page, runs, comparison)
    _add_findings(page, runs, options)
    for name, run in runs.items():
        _add_recipe(page, f"{name}: how to do it again" if len(runs) > 1 else "How to do it again", run)
    page.add_contents()


_ORDER = (
    "Accuracy forwards, with the frames reversed, shuffled, and with the middle frame alone. Beside each row: what "
    "most of the class's clips are answered with when they run backwards."
)


def _read(name: str) -> str:
    return files(__package__ or "kinemix.explain.report").joinpath(name).read_text(encoding="utf-8")


def _add_curves(page: Page, runs: Mapping[str, TestedRun]) -> None:
    curves = {
        name: read_curve(run.directory) for name, run in runs.items() if (run.directory / FILE_NAME).is_file()
    }
    curves = {name: curve for name, curve in curves.items() if curve}
    if curves:
        page.add_heading("Training")
        page.add_figures((plot_curves(curves), "Mean training loss and validation accuracy by epoch."))


def _add_confusion(page: Page, title: str, comparison: Comparison, name: str) -> None:
    page.add_heading(title)
    place = list(comparison.scores).index(name)
    metrics = comparison.metrics[name]
    class_names = comparison.scores[name].class_names
    page.add_html(render_confusion(metrics.confusion, class_names, name=f"confusion-{place}"))


def _add_clips(page: Page, prefix: str, run: TestedRun, options: ReportOptions) -> None:
    scores = run.scores
    worst, best = choose_clips(scores, worst=options.worst, best=options.best)
    page.add_heading(f"{prefix}clips")
    page.add_html('<p><button type="button" class="pause">Pause the clips</button></p>')
    try:
        videos = run.open_videos()
    except DataError as error:
        page.add_text(f"No clip can be shown: {error}")
    else:
        maker = FilmMaker(run, videos)
        parts = (
            ("Worst: wrong, and the class got least", worst),
            ("Best: right, and the class got most", best),
        )
        for title, clips in parts:
            if clips:
                page.add_heading(title, level=3)
                films = "".join(maker.render(clip) for clip in clips)
                page.add_html(f'<div class="clips">{films}</div>')
        page.add_text(
            "Above the frames as the network sees them, below what speaks for its answer (saliency: the brighter, the "
            "more). The percentage beside the class is the probability that it got."
        )
        if maker.reason:
            page.add_text(maker.reason)
    page.add_heading("Every clip", level=3)
    page.add_html(render_samples(scores, to_probabilities(scores)))
    for path, reason in scores.unreadable:
        page.add_text(f"Unreadable, in no figure: {path}: {reason}")


def _add_complexity(page: Page, runs: Mapping[str, TestedRun], comparison: Comparison) -> None:
    page.add_heading("Complexity")
    rows = []
    for name, run in runs.items():
        model, _ = load_checkpoint(run.folder)
        cost = measure_complexity(model)
        height, width = cost.input_size
        timed = comparison.costs[name]
        rows.append(
            (
                name,
                f"{cost.num_frames} x {height} x {width}",
                f"{cost.parameters:,}",
                f"{cost.added_parameters:,}",
                f"{cost.macs / 1e6:,.1f} M",
                f"{cost.added_macs / 1e6:,.1f} M",
                str(len(cost.sites)),
                "" if timed.latency is None else f"{1000 * timed.latency:.1f} ms",
            )
        )
    header = (
        *("network", "clip", "parameters", "of them temporal", "multiply-adds", "of them temporal"),
        *("temporal modules", "time a view"),
    )
    page.add_table(header, rows)
    if devices := sorted({cost.device for cost in comparison.costs.values() if cost.device}):
        page.add_text(f"Timed on {', '.join(devices)}: median of a forward pass of one clip.")


def _add_findings(page: Page, runs: Mapping[str, TestedRun], options: ReportOptions) -> None:
    """What the data doctor says about the videos that the runs were trained and tested on."""
    if options.doctor == "none":
        return
    page.add_heading("The data")
    for source, run in {run.data.source: run for run in runs.values()}.items():
        try:
            examination = _examine(run.data, options)
        except DataError as error:
            page.add_text(f"{source}: the doctor could not look at it: {error}")
            continue
        _add_examination(page, examination, quick=options.doctor == "headers")


def _examine(data: DataConfig, options: ReportOptions) -> Examination:
    with ExitStack() as stack:
        bars: list[CountBar] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(CountBar("examining videos", total=total)))
            bars[0].reach(done)

        return examine_collection(
            data, workers=options.workers, quick=options.doctor == "headers", progress=show
        )


def _add_examination(page: Page, examination: Examination, *, quick: bool) -> None:
    looked = "the headers" if quick else "every frame"
    page.add_text(
        f"{examination.source}: {examination.num_samples} samples, {examination.num_videos} videos; the doctor looked "
        f"at {looked} of {len(examination.records)}. Findings: {len(examination.findings) or 'none'}."
    )
    rows = []
    for severity in SEVERITIES:
        alike = [finding for finding in examination.findings if finding.severity == severity]
        for kind in dict.fromkeys(finding.kind for finding in alike):
            ones = [finding for finding in alike if finding.kind == kind]
            names = list(dict.fromkeys(Path(file).name for one in ones for file in one.files))
            more = f" and {len(names) - _FINDINGS} more" if len(names) > _FINDINGS else ""
            rows.append((severity, kind, str(len(names)), ", ".join(names[:_FINDINGS]) + more, ones[0].cure))
    if rows:
        page.add_table(("severity", "kind", "files", "which", "cure"), rows)


def _add_recipe(page: Page, title: str, run: TestedRun) -> None:
    """The command, the options and the machine of a run, as it wrote them down itself."""
    page.add_heading(title)
    directory = run.directory
    chosen = run.folder.name == "best" and run.source is None
    page.add_text(
        f"Weights: {run.folder}, after {run.epoch} epochs"
        + (", chosen among the epochs on these very videos (--checkpoint last is not)" if chosen else "")
        + f". Protocol: {run.scores.describe_protocol()}."
    )
    environment = _read_environment(directory / "environment.json")
    config = directory / CONFIG_NAME
    if command := environment.get("command"):
        page.add_text("It was trained by")
        page.add_code(shlex.join(["kinemix", *command[1:]]))
    if config.is_file():
        page.add_text("and is trained again, with every option as it was, and tested by")
        page.add_code(f"kinemix train --config {config} --out again\nkinemix test again")
        page.add_details("Every option", config.read_text(encoding="utf-8"))
    if environment:
        page.add_table(("environment", ""), _list_environment(environment))


def _read_environment(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _list_environment(environment: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    versions = environment.get("versions", {})
    return [
        ("platform", str(environment.get("platform", ""))),
        ("devices", ", ".join(environment.get("devices", [])) or "processor only"),
        ("cores, threads", f"{environment.get('cores', '')}, {environment.get('threads', '')}"),
        ("commit", str(environment.get("git_commit") or "not from a clone")),
        *((name, str(version)) for name, version in versions.items()),
    ]
