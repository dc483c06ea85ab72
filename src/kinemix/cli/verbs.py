"""The verbs: each declares its options, calls the library, prints what came back, and returns an exit code.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from kinemix.cli import VERBS, explain_going_on
from kinemix.cli.app import run_app as run_app
from kinemix.cli.bulk import add_workplace, open_workplace, read_names
from kinemix.cli.compare import run_compare as run_compare
from kinemix.cli.data import run_data as run_data
from kinemix.cli.doctor import run_doctor as run_doctor
from kinemix.cli.ensemble import run_ensemble as run_ensemble
from kinemix.cli.explain import run_embed as run_embed
from kinemix.cli.explain import run_explain as run_explain
from kinemix.cli.networks import run_complexity as run_complexity
from kinemix.cli.networks import run_list as run_list
from kinemix.cli.options import Options
from kinemix.cli.outputs import check_file
from kinemix.cli.prepare import run_prepare as run_prepare
from kinemix.cli.recipes import run_recipes as run_recipes
from kinemix.cli.report import run_report as run_report
from kinemix.cli.search import run_ablate as run_ablate
from kinemix.cli.search import run_sweep as run_sweep
from kinemix.cli.together import speak_once
from kinemix.cli.training import run_splits as run_splits
from kinemix.cli.training import run_train as run_train
from kinemix.config import Color, DataConfig, TrainConfig, from_dict
from kinemix.errors import ConfigError

Checkpoint = Literal["best", "last"]

_DATA_OPTIONS = (
    *("root", "class_file", "labels_start_at", "exclude_labels", "split", "task", "label_separator"),
    *("max_missing", "max_unreadable", "reader"),
)
"""Options of ``kinemix test`` about its DATA."""


def run_test(words: list[str]) -> int:
    """``kinemix test RUN [DATA]``."""
    return speak_once(lambda: _test(words))


def _test(words: list[str]) -> int:
    options = Options("test", "RUN [DATA] [--OPTION VALUE ...]", VERBS["test"])
    options.add("RUN", str, about="run directory, or one checkpoint folder in it")
    options.add("DATA", str, nargs="?", about="folder or list file; by default what the run held out")
    options.add(
        "--protocol", str | None, about="a paper's views instead of the run's: gsm-2clip, ...; ? lists them"
    )
    options.add("--clips", int | None, about="clips a video, if other than the protocol's")
    options.add("--crops", Literal[1, 3, 10] | None, about="crops a clip, likewise")
    options.add("--keep_views", bool, False, about="write the logits of every view too")
    options.add("--reverse", bool, False, about="play the frames of each clip backwards")
    options.add("--shuffle", bool, False, about="shuffle the frames of each clip")
    options.add("--single", bool, False, about="show the middle frame of each clip alone")
    options.add(
        "--checkpoint", Checkpoint | None, about="by default the best, or the last if there is no best"
    )
    options.add("--batch_size", int, 8, about="videos at a time")
    options.add("--workers", int, 2, about="loader processes")
    options.add("--submission", str | None, about="file for the EPIC-Kitchens-55 challenge, written as well")
    options.add_overrides(DataConfig, _DATA_OPTIONS, group="data")
    given = options.parse(words)
    check_file(given.submission)
    chosen = [order for order in ("reverse", "shuffle", "single") if getattr(given, order)]
    if len(chosen) > 1:
        raise ConfigError(f"--{chosen[0]} and --{chosen[1]}: give one of them")

    from kinemix.cli.figures import print_measurement
    from kinemix.engine.launch import is_first_process, join_started
    from kinemix.engine.measure import measure_run

    fabric = join_started()
    measurement = measure_run(
        given.RUN,
        given.DATA,
        checkpoint=given.checkpoint,
        protocol=given.protocol,
        num_clips=given.clips,
        num_crops=given.crops,
        keep_views=given.keep_views,
        order=chosen[0] if chosen else "forward",  # type: ignore[arg-type]
        submission=given.submission,
        data_options={k: v for k, v in given.data.as_dict().items() if v is not None},
        batch_size=given.batch_size,
        workers=given.workers,
        fabric=fabric,
    )
    if is_first_process():
        print_measurement(measurement)
    return 0


def run_predict(words: list[str]) -> int:
    """``kinemix predict RUN FILES...``; exit code 2 if a file could not be read."""
    options = Options("predict", "RUN [FILE ...] [--OPTION VALUE ...]", VERBS["predict"])
    options.add("RUN", str, about="run directory, or one checkpoint folder in it")
    options.add("FILES", str, nargs="*", about="video files, or folders of frames")
    options.add(
        "--list", str | None, about="text file that names more of them, one a line; - for standard input"
    )
    options.add("--format", Literal["table", "json", "csv"], "table", about="of the output")
    options.add("--top", int, 5, about="answers a file, and task")
    options.add(
        "--threshold",
        float,
        0.5,
        about="where a video may have several classes: score from which one is present",
    )
    options.add(
        "--checkpoint", Checkpoint | None, about="by default the best, or the last if there is no best"
    )
    options.add(
        "--workers",
        int | None,
        about="processes, each with the network and one thread; by default one a core, at most 8; 0, and by default "
        "for a single file here: none but this one, with all cores",
    )
    add_workplace(options, gpus=True)
    options.add(
        "--max_seconds", float, 300.0, about="for one file; it counts as unreadable if it takes longer"
    )
    given = options.parse(words)
    files = [*(given.FILES or ()), *(read_names(given.list) if given.list else ())]
    if not files:
        raise ConfigError("FILES must be given, or --list a file that names them; kinemix predict --help")

    from kinemix.cli.tables import print_answers
    from kinemix.deploy.predict import load, predict_in_bulk
    from kinemix.engine.environment import count_cores
    from kinemix.engine.progress import CountBar

    with open_workplace(given) as on, CountBar("predicting", total=len(files), amid_output=True) as bar:
        workers = given.workers
        if workers is None:
            workers = 0 if given.on == "local" and len(files) == 1 else min(8, count_cores())
        if workers == 0 and given.on == "local":
            recogniser = load(given.RUN, checkpoint=given.checkpoint)
            answers = recogniser.predict_files(files, top=given.top, threshold=given.threshold)
        else:
            answers = predict_in_bulk(
                given.RUN,
                files,
                checkpoint=given.checkpoint,
                top=given.top,
                threshold=given.threshold,
                on=on,
                workers=workers,
                max_seconds=given.max_seconds,
            )
        with closing(answers):
            failed = print_answers(bar.count(answers), form=given.format)
    for answer in failed:
        print(f"kinemix: error: {' '.join(str(answer.error).split())}", file=sys.stderr)
    return 2 if failed else 0


def run_convert(words: list[str]) -> int:
    """``kinemix convert FILE --out DIR --labels FILE``."""
    options = Options("convert", "FILE --out DIR [--OPTION VALUE ...]", VERBS["convert"])
    options.add("FILE", str, about=".pth, .pt, .pth.tar, .pyth or .safetensors")
    options.add("--out", str | None, about="new folder for the checkpoint; without it, report only")
    options.add(
        "--labels",
        str | None,
        about="text file with one class name a line, or 'numbers' to number the classes",
    )
    options.add("--model", str | None, about="<module>_<backbone>, where the file leaves it open")
    options.add("--num_frames", int | None, about="frames a clip, where the file leaves it open (most do)")
    options.add(
        "--size", int | tuple[int, int] | None, about="height and width in pixels; by default the network's"
    )
    options.add("--sampling", Literal["sparse", "dense"] | None, about="by default the project's")
    options.add("--frame_stride", int | None, about="of dense sampling; by default the project's")
    options.add("--clips", int | None, about="clips a video; by default the project's")
    options.add("--crops", Literal[1, 3, 10] | None, about="crops a clip; likewise")
    options.add("--model_options", dict[str, Any], {}, about="the temporal module's options, and placement")
    options.add("--backbone_options", dict[str, Any], {}, about="passed to the backbone's constructor")
    options.add("--allow_missing", bool, False, about="leave tensors that the file lacks as they start")
    options.add("--allow_extra", bool, False, about="drop tensors that the network lacks")
    options.add("--format", Literal["table", "json"], "table", about="of the report")
    given = options.parse(words)

    from kinemix.cli.tables import print_conversion
    from kinemix.models.foreign import convert_checkpoint

    conversion = convert_checkpoint(
        given.FILE,
        model=given.model,
        num_frames=given.num_frames,
        size=given.size,
        sampling=given.sampling,
        frame_stride=given.frame_stride,
        num_clips=given.clips,
        num_crops=given.crops,
        model_options=given.model_options,
        backbone_options=given.backbone_options,
    )
    print_conversion(conversion, form=given.format)
    conversion.report.check(allow_missing=given.allow_missing, allow_extra=given.allow_extra)
    if given.out is None:
        return 0
    from kinemix.data.annotations import read_class_file
    from kinemix.data.mirror import mirror_labels

    if given.labels is None:
        raise ConfigError(
            f"{given.FILE}: the file does not name its {conversion.model.num_classes} classes: give --labels a "
            "text file with one name a line, or --labels numbers"
        )
    numbers = [str(number) for number in range(conversion.model.num_classes)]
    names = numbers if given.labels == "numbers" else read_class_file(given.labels)
    path = conversion.save(
        given.out,
        class_names=names,
        mirrored_labels=mirror_labels(names),
        allow_missing=given.allow_missing,
        allow_extra=given.allow_extra,
    )
    print(path.parent, file=sys.stderr if given.format == "json" else sys.stdout)
    return 0


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
    options.add(
        "--support", bool, False, about="try precisions, torch.compile and export, and say what works"
    )
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
    model = build_model(config, num_classes=given.num_classes, pretrained=False)
    facts = plan(model)
    answers = []
    if given.support:
        from kinemix.cli.network_tables import print_support
        from kinemix.evaluate.support import check_support

        answers = check_support(model)
        facts["support"] = [asdict(answer) for answer in answers]
    if given.format == "json":
        print(json.dumps(facts, indent=2))
    else:
        print_plan(facts)
        if answers:
            print_support({given.MODEL: answers})
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
    with explain_going_on(), CountBar("making videos", total=total) as bar:
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
    options.add("--models", str, nargs="+", about="networks to put to the test; by default TSN and MSTNet")
    given = options.parse(words)

    from kinemix.demo import run_demo as show

    show(out=Path(given.out), models=given.models or None)
    return 0
