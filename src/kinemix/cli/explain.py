"""``kinemix explain`` and ``kinemix embed``: pictures of what a network saw and of what it makes of a set.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.config import DataConfig
from kinemix.errors import ConfigError

if TYPE_CHECKING:
    from kinemix.explain.embed import Embedding

UNREADABLE = 2
"""Exit code where a video could not be read."""


def run_explain(words: list[str]) -> int:
    """``kinemix explain RUN VIDEO...``; exit code 2 if a file could not be read."""
    options = Options("explain", "RUN VIDEO [VIDEO ...] [--OPTION VALUE ...]", VERBS["explain"])
    options.add("RUN", str, about="run directory, or one checkpoint folder in it")
    options.add("VIDEOS", str, nargs="+", about="video files, or folders of frames")
    options.add("--label", str | None, about="class to explain; by default the answer to each video")
    options.add(
        "--methods", str, nargs="+",
        about="tube, grad_cam, evidence, gates, frames, kernels, positions; by default all that apply",
    )  # fmt: skip
    options.add("--beside", str, nargs="+", about="other runs, whose saliency stands below in the strips")
    options.add("--names", str, nargs="+", about="of the networks, one a run; by default their models'")
    options.add("--out", str | None, about="folder to write to; by default explain/ in the run directory")
    options.add(
        "--form", Literal["all", "page", "pictures"], "all", about="a page, folders of files, or both"
    )
    options.add(
        "--checkpoint",
        Literal["best", "last"] | None,
        about="by default the best, or the last if there is no best",
    )
    options.add("--seed", int, 0, about="of the shuffles")
    given = options.parse(words)

    from kinemix.deploy.predict import load
    from kinemix.engine.progress import CountBar
    from kinemix.errors import UnreadableVideoError
    from kinemix.explain.explanation import ExplanationWriter, explain_video
    from kinemix.explain.methods import Network, choose_methods

    methods = given.methods or None
    choose_methods(methods)  # a wrong name is told before anything is loaded
    runs = name_runs([given.RUN, *(given.beside or ())], given.names)
    networks = [Network(title, load(run, checkpoint=given.checkpoint)) for title, run in runs.items()]
    out = Path(given.out) if given.out else find_run_directory(given.RUN) / "explain"
    writer = ExplanationWriter(out, networks, methods=methods, form=given.form)
    failed: list[str] = []
    with CountBar("explaining", total=len(given.VIDEOS)) as bar:
        for video in given.VIDEOS:
            try:
                explanation = explain_video(
                    networks, video, title=_name(video), label=given.label, methods=methods, seed=given.seed
                )
            except UnreadableVideoError as error:
                failed.append(str(error))
            else:
                writer.add(explanation)
            bar.advance(1)
    if len(failed) < len(given.VIDEOS):
        print(writer.finish())
    for method, reason in writer.left_out.items():
        print(f"{method}: {reason}", file=sys.stderr)
    for reason in failed:
        print(f"kinemix: error: {' '.join(reason.split())}", file=sys.stderr)
    return UNREADABLE if failed else 0


_DATA_OPTIONS = (
    *("root", "class_file", "labels_start_at", "exclude_labels", "split", "task"),
    *("max_missing", "max_unreadable", "reader"),
)
"""Options of ``kinemix embed`` about its DATA."""


def run_embed(words: list[str]) -> int:
    """``kinemix embed RUN [RUN ...] [DATA]``."""
    given = _declare_embed().parse(words)

    from kinemix.explain.embed import embed_runs, write_embedding
    from kinemix.explain.features import FEATURES
    from kinemix.explain.groups import read_groups

    groups = None if given.groups is None else read_groups(given.groups)
    runs, source = split_runs(given.RUNS)
    embedding = embed_runs(
        name_runs(runs, given.names),
        source,
        layers=given.layers or (FEATURES,),
        last_blocks=given.last_blocks,
        classes=given.classes or None,
        groups=groups,
        keep_others=given.keep_others,
        sample=given.sample,
        way=given.way,
        perplexity=given.perplexity,
        seed=given.seed,
        checkpoint=given.checkpoint,
        data_options={k: v for k, v in given.data.as_dict().items() if v is not None},
        batch_size=given.batch_size,
        workers=given.workers,
    )
    out = Path(given.out) if given.out else find_run_directory(runs[0]) / "embed"
    path = write_embedding(out, embedding, save=given.save)
    _print_embedding(embedding, path)
    return 0


def _declare_embed() -> Options:
    options = Options("embed", "RUN [RUN ...] [DATA] [--OPTION VALUE ...]", VERBS["embed"])
    options.add(
        "RUNS", str, nargs="+",
        about="run directories, side by side; behind them a folder or list file, by default what the first held out",
    )  # fmt: skip
    options.add("--names", str, nargs="+", about="of the networks, one a run; by default their models'")
    options.add(
        "--way", Literal["tsne", "opentsne", "umap", "pca"], "tsne", about="how features are projected"
    )
    options.add(
        "--layers", str, nargs="+", about="modules in the backbone; by default what the classifier sees"
    )
    options.add("--last_blocks", int | None, about="the outputs of so many of the last blocks, instead")
    options.add(
        "--classes", str, nargs="+", about="names or patterns of the classes to show, each in its colour"
    )
    options.add("--groups", str | None, about="YAML file of groups of classes, one colour a group")
    options.add("--keep_others", bool, False, about="show the classes that were not chosen too, in grey")
    options.add("--sample", int | None, about="at most so many videos, drawn evenly from all")
    options.add("--perplexity", float, 30.0, about="of t-SNE; UMAP's number of neighbours")
    options.add("--seed", int, 0, about="of what is drawn at random")
    options.add("--out", str | None, about="folder to write to; by default embed/ in the first run directory")
    options.add("--save", Literal["parquet", "npz", "none"], "parquet", about="how features are saved")
    options.add(
        "--checkpoint",
        Literal["best", "last"] | None,
        about="by default the best, or the last if there is no best",
    )
    options.add("--batch_size", int, 8, about="videos at a time")
    options.add("--workers", int, 2, about="loader processes")
    options.add_overrides(DataConfig, _DATA_OPTIONS, group="data")
    return options


def split_runs(words: list[str]) -> tuple[list[str], str | None]:
    """Run directories, and the data behind them if the last word is no run."""
    *runs, last = words
    is_run = any((Path(last) / name).exists() for name in ("model.json", "config.yaml", "best", "last"))
    if runs and not is_run and Path(last).name != "model.json":
        return runs, last
    return words, None


def find_run_directory(run: str) -> Path:
    """The run directory, also where one of its checkpoints was named."""
    from kinemix.models.checkpoint import find_checkpoint

    folder = find_checkpoint(Path(run))
    return folder.parent if folder.name in ("best", "last") else folder


def name_runs(runs: list[str], names: list[str] | None) -> dict[str, str]:
    """A name for each run: those that were given, or their models', or as little of their paths as tells them apart.

    Raises:
        ConfigError: not one name a run; the same run twice.
    """
    from kinemix.cli.ensemble import shorten
    from kinemix.models.checkpoint import find_checkpoint, read_description

    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise ConfigError(f"{runs[-1]}: the same run twice: name each once")
    if not names:
        models = [str(read_description(find_checkpoint(Path(run)))["model"].get("name")) for run in runs]
        names = models if len(set(models)) == len(models) else shorten(runs)
    if len(names) != len(runs) or len(set(names)) < len(names):
        raise ConfigError(f"--names: give {len(runs)} different ones, one a run")
    return dict(zip(names, runs, strict=True))


def _print_embedding(embedding: "Embedding", picture: Path) -> None:
    """How well the groups stand apart in each panel, and where the files are."""
    from kinemix.cli.tables import _open_console, _percent, _print_line, _start_table

    for notice in embedding.notices:
        print(f"note: {notice}", file=sys.stderr)
    console = _open_console()
    table = _start_table(left=("features",), right=("dimensions", "neighbours alike", "chance", "silhouette"))
    for name, panel in embedding.panels.items():
        found = panel.separation
        figures = ["-"] * 3
        if found is not None:
            silhouette = "-" if found.silhouette is None else f"{found.silhouette:.2f}"
            figures = [_percent(found.neighbours), _percent(found.chance), silhouette]
        table.add_row(name, str(panel.vectors.shape[1]), *figures)
    console.print(table)
    _print_line(console, f"{len(embedding.ids)} videos, {len(embedding.groups.names)} groups")
    _print_line(console, str(picture))


def _name(video: str) -> str:
    """A video's file with its folder, which is often its class."""
    return "/".join(Path(video).resolve().parts[-2:])
