"""The main job in one command: a plain image network fails on real video files, a temporal one succeeds.

``kinemix demo`` makes the ``motion`` videos, trains TSN (no temporal module) and MSTNet on the same small
backbone by the ordinary training path, tests both forwards, reversed, shuffled and from one frame, and writes
``summary.json`` and one HTML page, which ends in their report. What is there already is kept: a second call is
quick. Other networks can be put to the same test (``--models gsm_resnet18 ctm_resnet18``).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kinemix.config import AugmentConfig, DataConfig, MachineConfig, OptimConfig, TrainConfig
from kinemix.data.catalog.motion import CLASSES, PAIRS, make_motion
from kinemix.data.reader import open_video
from kinemix.deploy.predict import Prediction, load
from kinemix.engine.progress import CountBar
from kinemix.engine.settle import build_model
from kinemix.engine.tested_run import TestedRun, open_tested_run
from kinemix.engine.train import train
from kinemix.evaluate.compare import is_right
from kinemix.evaluate.metrics import opposite_share
from kinemix.explain.filmstrip import plot_filmstrip
from kinemix.explain.page import Page
from kinemix.explain.report import ReportOptions, add_report_

NETWORKS = {"plain (TSN)": "tsn_resnet18", "MSTNet": "mstnet_resnet18"}
"""Name in the table -> model. The two differ in nothing but the temporal modules."""

SMALL = "_resnet18"
BACKBONE = {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 8}
"""What a network on a ResNet-18 is cut down to, so that two processor cores train it in a minute."""

TRAIN_PER_CLASS, VAL_PER_CLASS = 40, 20
SHOWN_CLIP = "move_left"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one network understood, in shares.

    Attributes:
        model: its name for ``create_model``.
        accuracy: top-1 on the held-out videos.
        accuracy_reversed: top-1 against the videos' own labels when the frames run backwards.
        opposite_share: of the reversed videos, those answered with the opposite class of their pair.
        unchanged_share: of the reversed videos, those answered as when they ran forwards.
        parameters: of the network.
    """

    model: str
    accuracy: float
    accuracy_reversed: float
    opposite_share: float
    unchanged_share: float
    parameters: int


def run_demo(*, out: Path, models: Sequence[str] | None = None) -> dict[str, Outcome]:
    """Make the videos, train, test, predict, and write ``summary.json`` and ``index.html`` to ``out``.

    Args:
        out: folder for everything; what an earlier call left there is used.
        models: networks to put to the test; by default :data:`NETWORKS`.

    Returns:
        Name in the table -> outcome.

    Raises:
        ConfigError: no such model.
    """
    console = Console(highlight=False)
    networks = NETWORKS if models is None else {model: model for model in models}
    for model in networks.values():  # a mistyped name is told before minutes have gone by
        build_model(build_config(model, videos=out, out=out), num_classes=len(CLASSES), pretrained=False)
    console.print("[bold]1. Videos[/]  12 classes in 6 pairs; one of a pair is the other played backwards")
    videos = make_videos(out / "motion")
    outcomes: dict[str, Outcome] = {}
    runs: dict[str, TestedRun] = {}
    for number, (title, model) in enumerate(networks.items(), start=2):
        console.print(f"[bold]{number}. Training[/]  {title}: kinemix train {videos} --model {model} ...")
        trained = train(build_config(model, videos=videos, out=out / "runs" / model))
        runs[title] = open_tested_run(trained, checkpoint="last", workers=1)
        outcomes[title] = sum_up(model, runs[title])
    clip, answers = _predict(videos, out / "runs" / model)
    console.print(f"[bold]{number + 1}. Prediction[/]  kinemix predict {out}/runs/{model} {clip}")
    console.print("   " + ", ".join(f"{answer.label} {answer.score:.1%}" for answer in answers))

    summary = {title: asdict(outcome) for title, outcome in outcomes.items()}
    out.joinpath("summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    page = Page("What a network sees of time")
    _add_introduction(page, out, videos, outcomes, clip, answers)
    add_report_(page, runs, options=ReportOptions(worst=6, best=6))
    page.write(out / "index.html")
    console.print(_build_table(outcomes))
    console.print(_LEGEND)
    console.print(f"Figures: {out / 'summary.json'}   Page: {out / 'index.html'}")
    return outcomes


def build_config(model: str, *, videos: Path, out: Path) -> TrainConfig:
    """The demo's training run; it goes on from where an earlier call stopped."""
    return TrainConfig(
        model=model,
        backbone_options=BACKBONE if model.endswith(SMALL) else {},
        size=(56, 56),
        data=DataConfig(source=str(videos), cache=str(videos.with_name("frames")), workers=1),
        augment=AugmentConfig(scales=(1.0, 0.875), flip="off"),
        optim=OptimConfig(
            name="adamw",
            lr=4e-3,
            weight_decay=0.01,
            decay_norms=False,
            epochs=24,
            warmup_epochs=3,
            dropout=0.0,
        ),
        machine=MachineConfig(accelerator="cpu", threads=2, channels_last=True),
        out=str(out),
        resume=(out / "config.yaml").is_file(),
        validate_every=4,
    )


def make_videos(folder: Path) -> Path:
    """The demo's set of ``motion`` easy, in ``folder``, which is returned; made before, it is left alone."""
    total = len(CLASSES) * (TRAIN_PER_CLASS + VAL_PER_CLASS)
    with CountBar("making videos", total=total) as bar:
        return make_motion(
            folder,
            grade="easy",
            train_per_class=TRAIN_PER_CLASS,
            val_per_class=VAL_PER_CLASS,
            progress=lambda done, _: bar.reach(done),
        )


def sum_up(model: str, run: TestedRun) -> Outcome:
    """What tests of a run on ``motion`` came to, forwards and reversed.

    Args:
        model: its name.
        run: with the tests ``forward`` and ``reverse``.
    """
    forward, backward = run.tests["forward"], run.tests["reverse"]
    pairs = {tuple(sorted(pair)) for pair in PAIRS.items()}
    same = forward.logits.argmax(axis=1) == backward.logits.argmax(axis=1)
    return Outcome(
        model=model,
        accuracy=float(is_right(forward).mean()),
        accuracy_reversed=float(is_right(backward).mean()),
        opposite_share=opposite_share(
            backward.logits,
            backward.labels,
            backward.class_names,
            [(first, second) for first, second in pairs],
        ),
        unchanged_share=float(same.mean()),
        parameters=sum(p.numel() for p in load(run.folder).model.parameters()),
    )


def _predict(videos: Path, run: Path) -> tuple[Path, list[Prediction]]:
    clip = sorted((videos / "val" / SHOWN_CLIP).glob("*.mp4"))[0]
    return clip, load(run, checkpoint="last").predict(clip, top=3)


_COLUMNS = ("network", "accuracy", "reversed", "opposite", "unchanged", "parameters")
_LEGEND = (
    "accuracy: held-out videos named right. With the frames of every video reversed: still named as before the "
    "reversal by its label (reversed), named as the opposite class of its pair (opposite), same answer as "
    "forwards (unchanged). Without order no network passes 50 %: both videos of a pair hold the same frames."
)
_BY_PAIR = tuple(name for first in sorted(PAIRS) if first < PAIRS[first] for name in (first, PAIRS[first]))
"""The classes, each beside its opposite."""


def _list_rows(outcomes: dict[str, Outcome]) -> list[list[str]]:
    return [
        [
            title,
            f"{outcome.accuracy:.1%}",
            f"{outcome.accuracy_reversed:.1%}",
            f"{outcome.opposite_share:.1%}",
            f"{outcome.unchanged_share:.1%}",
            f"{outcome.parameters:,}",
        ]
        for title, outcome in outcomes.items()
    ]


def _build_table(outcomes: dict[str, Outcome]) -> Table:
    table = Table(title="motion, grade easy: held-out videos, forwards and with the frames reversed")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "network" else "right")
    for row in _list_rows(outcomes):
        table.add_row(*row)
    return table


def _add_introduction(
    page: Page,
    out: Path,
    videos: Path,
    outcomes: dict[str, Outcome],
    clip: Path,
    answers: Sequence[Prediction],
) -> None:
    """What stands before the report: the question, the answer in one table, the videos, a prediction."""
    page.add_text(
        "Twelve classes of short videos stand in six pairs; one class of a pair is the other played backwards. "
        "Any answer that ignores the order of frames is the same for both, so it is right for one at most. All "
        "networks are trained alike."
    )
    if set(outcomes) == set(NETWORKS):
        page.add_text("Both are the same small ResNet; MSTNet has a MixTConv before each block.")
    page.add_table(_COLUMNS, _list_rows(outcomes))
    page.add_text(_LEGEND)
    page.add_code(f"kinemix demo --out {out}")
    page.add_heading("The videos")
    page.add_figures(
        (plot_filmstrip(_read_samples(videos)), "One clip of each class, time from left to right.")
    )
    page.add_heading("A prediction")
    page.add_code(f"kinemix predict {out}/runs/{list(outcomes.values())[-1].model} {clip}")
    page.add_table(("class", "score"), [(answer.label, f"{answer.score:.1%}") for answer in answers])


def _read_samples(videos: Path) -> dict[str, Any]:
    samples = {}
    for name in _BY_PAIR:
        with open_video(sorted((videos / "val" / name).glob("*.mp4"))[0]) as reader:
            samples[name] = reader.read(range(reader.num_frames))
    return samples
