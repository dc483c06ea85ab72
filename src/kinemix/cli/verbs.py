"""The verbs: each declares its options, calls the library, prints what came back, and returns an exit code.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.config import Color, TrainConfig, from_dict
from kinemix.errors import ConfigError

Checkpoint = Literal["best", "last"]


def run_train(words: list[str]) -> int:
    """``kinemix train DATA --model NAME``."""
    options = _declare_train()
    given = options.parse(words)
    if given.resume and given.out and (path := Path(given.out) / "config.yaml").is_file():
        given = options.parse(["--config", str(path), *words])
    values = given.as_dict()
    del values["config"]
    if source := values.pop("DATA"):
        values["data"]["source"] = source
    if not values["data"]["source"] and not given.resume:
        raise ConfigError(
            "no data: name a folder with one folder a class, or a list file: kinemix train DATA"
        )
    config = from_dict(TrainConfig, values)

    from kinemix.engine.launch import is_first_process
    from kinemix.engine.train import train

    directory = train(config)
    if is_first_process():
        print(directory)
    return 0


def run_test(words: list[str]) -> int:
    """``kinemix test RUN [DATA]``."""
    options = Options("test", "RUN [DATA] [--OPTION VALUE ...]", VERBS["test"])
    options.add("RUN", str, about="run directory, or one checkpoint folder in it")
    options.add("DATA", str, nargs="?", about="folder or list file; by default what the run held out")
    options.add("--clips", int | None, about="clips a video, if other than the run's protocol")
    options.add("--crops", Literal[1, 3, 10] | None, about="crops a clip, likewise")
    options.add("--reverse", bool, False, about="play the frames of each clip backwards")
    options.add("--shuffle", bool, False, about="shuffle the frames of each clip")
    options.add(
        "--checkpoint", Checkpoint | None, about="by default the best, or the last if there is no best"
    )
    options.add("--batch_size", int, 8, about="videos at a time")
    options.add("--workers", int, 2, about="loader processes")
    given = options.parse(words)
    if given.reverse and given.shuffle:
        raise ConfigError("--reverse and --shuffle: give one of them")

    from kinemix.cli.tables import print_measurement
    from kinemix.engine.measure import measure_run

    print_measurement(
        measure_run(
            given.RUN,
            given.DATA,
            checkpoint=given.checkpoint,
            num_clips=given.clips,
            num_crops=given.crops,
            order="reverse" if given.reverse else "shuffle" if given.shuffle else "forward",
            batch_size=given.batch_size,
            workers=given.workers,
        )
    )
    return 0


def run_predict(words: list[str]) -> int:
    """``kinemix predict RUN FILES...``; exit code 2 if a file could not be read."""
    options = Options("predict", "RUN FILE [FILE ...] [--OPTION VALUE ...]", VERBS["predict"])
    options.add("RUN", str, about="run directory, or one checkpoint folder in it")
    options.add("FILES", str, nargs="+", about="video files, or folders of frames")
    options.add("--format", Literal["table", "json", "csv"], "table", about="of the output")
    options.add("--top", int, 5, about="answers a file")
    options.add(
        "--checkpoint", Checkpoint | None, about="by default the best, or the last if there is no best"
    )
    given = options.parse(words)

    from kinemix.cli.tables import print_answers
    from kinemix.deploy.predict import load

    recogniser = load(given.RUN, checkpoint=given.checkpoint)
    answers = recogniser.predict_files(given.FILES, top=given.top)
    failed = print_answers(answers, form=given.format)
    for answer in failed:
        print(f"kinemix: error: {' '.join(str(answer.error).split())}", file=sys.stderr)
    return 2 if failed else 0


def run_inspect(words: list[str]) -> int:
    """``kinemix inspect MODEL``."""
    options = Options("inspect", "MODEL [--OPTION VALUE ...]", VERBS["inspect"])
    options.add("MODEL", str, about="<module>_<backbone>; kinemix models lists them")
    options.add("--num_classes", int, 400, about="size of the classifier")
    options.add("--num_frames", int, 8, about="frames a clip")
    options.add(
        "--size", int | tuple[int, int] | None, about="height and width in pixels; by default the backbone's"
    )
    options.add(
        "--color", Color | None, about="channel order, or one grey channel; by default the backbone's"
    )
    options.add("--model_options", dict[str, Any], {}, about="the temporal module's options, and placement")
    options.add("--backbone_options", dict[str, Any], {}, about="passed to the backbone's constructor")
    options.add("--format", Literal["table", "json"], "table", about="of the output")
    given = options.parse(words)

    from kinemix.cli.tables import print_plan
    from kinemix.engine.settle import build_model
    from kinemix.evaluate.complexity import plan

    values = {
        "model": given.MODEL,
        "size": given.size,
        "color": given.color,
        "model_options": given.model_options,
        "backbone_options": given.backbone_options,
        "protocol": {"num_frames": given.num_frames},
    }
    config = from_dict(TrainConfig, values)
    facts = plan(build_model(config, num_classes=given.num_classes, pretrained=False))
    if given.format == "json":
        print(json.dumps(facts, indent=2))
    else:
        print_plan(facts)
    return 0


def run_models(words: list[str]) -> int:
    """``kinemix models [PATTERN]``."""
    options = Options("models", "[PATTERN]", VERBS["models"])
    options.add("PATTERN", str, "*", nargs="?", about="shell pattern such as 'tsm_resnet*'")
    given = options.parse(words)

    from kinemix.models.factory import list_models

    names = list_models(given.PATTERN)
    if not names:
        raise ConfigError(f"no model matches {given.PATTERN!r}: try 'kinemix models \"tsm_resnet*\"'")
    print("\n".join(names))
    return 0


def run_motion(words: list[str]) -> int:
    """``kinemix motion OUT``."""
    options = Options("motion", "OUT [--OPTION VALUE ...]", VERBS["motion"])
    options.add("OUT", str, about="folder to make")
    options.add("--grade", Literal["easy", "medium", "hard"], "easy", about="difficulty")
    options.add("--train_per_class", int, 40, about="training videos of each class")
    options.add("--val_per_class", int, 20, about="held-out videos of each class")
    options.add("--seed", int, 0, about="of everything that is drawn")
    options.add("--num_frames", int | None, about="of each video; by default the grade's")
    options.add("--size", int | None, about="side of the frames in pixels; by default the grade's")
    options.add("--workers", int, 2, about="threads")
    given = options.parse(words)

    from kinemix.data.catalog.motion import CLASSES, make_motion
    from kinemix.engine.progress import CountBar

    total = len(CLASSES) * (given.train_per_class + given.val_per_class)
    with CountBar("making videos", total=total) as bar:
        folder = make_motion(
            given.OUT,
            grade=given.grade,
            train_per_class=given.train_per_class,
            val_per_class=given.val_per_class,
            seed=given.seed,
            num_frames=given.num_frames,
            size=given.size,
            workers=given.workers,
            progress=lambda done, _: bar.reach(done),
        )
    print(folder)
    return 0


def run_demo(words: list[str]) -> int:
    """``kinemix demo``."""
    options = Options("demo", "[--OPTION VALUE ...]", VERBS["demo"])
    options.add("--out", str, "demo", about="folder for videos, runs, summary.json and the page")
    given = options.parse(words)

    from kinemix.demo import run_demo as show

    show(out=Path(given.out))
    return 0


def _declare_train() -> Options:
    options = Options("train", "DATA [--model NAME] [--config FILE] [--OPTION VALUE ...]", VERBS["train"])
    options.add(
        "DATA", str, nargs="?", about="a folder with one folder a class, or a list file (data.source)"
    )
    options.add_config(TrainConfig, skip=("protocol.input",))
    return options
