"""The comment at the head of a recipe: everything about it that follows from elsewhere.

Rows and accuracies come from :mod:`kinemix.evaluate.papers`, views from the named protocols, hours from the
network's multiply-adds. ``kinemix recipes headers`` writes them anew, and tests hold the files to that.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kinemix.atomic import write_atomically
from kinemix.config import TrainConfig
from kinemix.data.order import TrainOrder
from kinemix.engine.parts import plan_config_phases
from kinemix.engine.recipes import Recipe, Test, read_recipe_config
from kinemix.engine.settle import build_model
from kinemix.evaluate.complexity import measure_complexity
from kinemix.evaluate.fidelity import compare_row
from kinemix.evaluate.papers import TITLES
from kinemix.evaluate.protocol import count_things
from kinemix.models.video import VideoModel

GPU = "NVIDIA A100"
RATES = {"dense": 10e12, "depthwise 3D": 1.5e12}
"""Multiply-adds a second that a training is assumed to keep up on it, and no measurement of ours. Dense: a ResNet-50
that learns 800 images a second. Networks whose large convolutions across space and time are depthwise wait for
memory."""

NOT_RUN, COUNTED = "not run: needs the dataset", "counts verified"

_WIDTH = 118
_FIELDS = ("rows", "train", "test", "expected", "estimate", "status", "deviates")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What stands in the comment.

    Attributes:
        rows: paper, table and row of each test.
        train, test: commands.
        expected: accuracies as printed, with the views of the test.
        estimate: hours on a GPU, which are computed and not measured.
        status: what has been verified.
        deviates: from the paper.
    """

    rows: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    expected: tuple[str, ...]
    estimate: tuple[str, ...]
    status: tuple[str, ...]
    deviates: tuple[str, ...]


def make_header(recipe: Recipe) -> Header:
    """The header of a recipe for rows of a paper; its network is built on the meta device and counted."""
    config = read_recipe_config(recipe.name)
    model = _build(recipe, config)
    return Header(
        **list_facts(recipe, config),
        estimate=(
            f"{_round(estimate_hours(recipe, config, model))} hours on one {GPU}, from multiply-adds, not measured",
        ),
        status=(judge_status(recipe),),
    )


def list_facts(recipe: Recipe, config: TrainConfig) -> dict[str, tuple[str, ...]]:
    """All of the header that nothing has to be counted for."""
    run = f"runs/{recipe.name.replace('/', '-')}"
    start = f" --init_from runs/{recipe.start.replace('/', '-')}" if recipe.start else ""
    options = f"{recipe.dataset}:ROOT --config recipe:{recipe.name}{start} --out {run}"
    if recipe.splits:
        train = f"kinemix splits {options} --test_protocol {recipe.tests[0].protocol}"
    else:
        train = f"kinemix train {options}"
    return {
        "rows": tuple(_name_row(test) for test in recipe.tests),
        "train": (train,),
        "test": tuple(dict.fromkeys(tell_test(recipe, test) for test in recipe.tests)),
        "expected": tuple(dict.fromkeys(_tell_results(recipe, test, config) for test in recipe.tests)),
        "deviates": recipe.deviations,
    }


def tell_test(recipe: Recipe, test: Test) -> str:
    """The command that measures a row."""
    if recipe.splits:
        return "the same command tests every split"
    return f"kinemix test runs/{recipe.name.replace('/', '-')} {' '.join(test.options())}"


def read_header(path: Path) -> dict[str, tuple[str, ...]]:
    """The fields of the comment at the head of a file; what is not there is missing."""
    found: dict[str, list[str]] = {}
    field = None
    for line in _split_head(path.read_text(encoding="utf-8"))[0]:
        match = re.match(r"# (\w+): +(.*)", line)
        if match and match[1] in _FIELDS:
            field = match[1]
            found.setdefault(field, []).append(match[2])
        elif field is not None and (more := re.match(r"# {14}(\S.*)", line)):
            found[field][-1] += f" {more[1]}"
        elif field is not None and (more := re.match(r"# {12}(\S.*)", line)):
            found[field].append(more[1])
    return {field: tuple(values) for field, values in found.items()}


def write_header(recipe: Recipe, header: Header) -> bool:
    """Put the header at the head of the recipe's file.

    Returns:
        Whether the file has changed.
    """
    text = recipe.path.read_text(encoding="utf-8")
    titles = ", ".join(TITLES[paper] for paper in recipe.papers)
    lines = [f"# {titles}", "#"]
    for field in _FIELDS:
        lines += _format_field(field, getattr(header, field))
    new = "\n".join(lines) + "\n" + _split_head(text)[1]
    if new == text:
        return False
    write_atomically(recipe.path, lambda partial: partial.write_text(new, encoding="utf-8"))
    return True


def estimate_hours(recipe: Recipe, config: TrainConfig, model: VideoModel) -> float:
    """Hours of training on one :data:`GPU`: forward and backward are three times the forward's multiply-adds.

    Batches of a multigrid training are as much work each as one of the full shape.
    """
    optim = config.optim
    batches = 0
    for count in _count_videos(recipe, config):
        order = TrainOrder(
            count,
            batch_size=optim.batch_size,
            seed=0,
            phases=plan_config_phases(config, model),
            accumulate=optim.accumulate,
        )
        batches += sum(order.count_batches(epoch) for epoch in range(optim.epochs))
    macs = measure_complexity(model).macs
    return 3 * macs * batches * optim.batch_size / RATES[_judge_kind(model)] / 3600


def judge_status(recipe: Recipe) -> str:
    """Whether the counts that the rows print are those of the network; nothing of theirs has been trained here."""
    verdicts = [
        verdict
        for test in recipe.tests
        if test.row.has_count
        for comparison in [compare_row(test.row)]
        for verdict in (comparison.parameters_verdict, comparison.macs_verdict)
        if verdict is not None
    ]
    if verdicts and all(verdict in ("exact", "within 1 %") for verdict in verdicts):
        return f"{COUNTED}; {NOT_RUN}"
    return NOT_RUN


def _round(hours: float) -> str:
    """Two figures: more would promise what an estimate cannot keep."""
    return f"{float(f'{hours:.2g}'):g}"


def _build(recipe: Recipe, config: TrainConfig) -> VideoModel:
    kind = recipe.kind
    assert kind is not None
    names = kind.class_names(split=config.data.split, task=config.data.task)
    num_classes = kind.facts.tasks if config.data.task == "all" else len(names)
    with torch.device("meta"):
        return build_model(config, num_classes=num_classes, pretrained=False)


def _count_videos(recipe: Recipe, config: TrainConfig) -> list[int]:
    """Training videos of each training."""
    if recipe.num_videos is not None:
        return [recipe.num_videos]
    kind = recipe.kind
    assert kind is not None
    splits = kind.facts.splits if recipe.splits else [config.data.split or kind.facts.splits[0]]
    return [kind.facts.sizes[split]["train"] for split in splits]


def _judge_kind(model: VideoModel) -> str:
    convs = [module for module in model.modules() if isinstance(module, nn.Conv3d)]
    depthwise = any(conv.groups == conv.in_channels > 1 and max(conv.kernel_size[1:]) > 1 for conv in convs)
    return "depthwise 3D" if depthwise else "dense"


def _name_row(test: Test) -> str:
    row = test.row
    about = f" ({row.about})" if row.about else ""
    table = f"Table {row.table}" if len(row.table) < 5 else row.table
    return f"{row.paper}, {table}: {row.label}{about}"


def _tell_results(recipe: Recipe, test: Test, config: TrainConfig) -> str:
    frames, clips, crops = test.views(config)
    figures = ", ".join(f"{name} {value}" for name, value in test.results(recipe.dataset).items())
    order = ", frames reversed" if test.reverse else ""
    views = " x ".join(
        count_things(n, thing) for n, thing in ((frames, "frame"), (clips, "clip"), (crops, "crop"))
    )
    return f"{figures} ({views}{order})"


def _split_head(text: str) -> tuple[list[str], str]:
    """The comment at the beginning of a file, and the rest."""
    lines = text.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.rstrip("\n") for line in lines[:count]], "".join(lines[count:])


def _format_field(field: str, values: tuple[str, ...]) -> Iterator[str]:
    first = f"# {field}:".ljust(13)
    for value in values:
        if field in ("train", "test"):  # commands stay in one piece, to be copied
            yield first + value
            first = "#".ljust(13)
            continue
        yield from textwrap.wrap(
            value,
            _WIDTH,
            initial_indent=first,
            subsequent_indent="#".ljust(15),
            break_long_words=False,
            break_on_hyphens=False,
        )
        first = "#".ljust(13)
