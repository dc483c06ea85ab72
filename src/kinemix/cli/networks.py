"""The verbs about the networks themselves: what they cost, what the papers print of them, what there is."""

import json
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Literal

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.cli.outputs import check_file, write_file
from kinemix.config import TrainConfig, from_dict
from kinemix.errors import ConfigError

if TYPE_CHECKING:
    from kinemix.evaluate.latency import Latency

Papers = Literal["all", "mixtconv", "gsm", "ctm", "mtnet", "x3d"]


def run_complexity(words: list[str]) -> int:
    """``kinemix complexity MODEL...``, or ``--papers``."""
    given = _declare_complexity().parse(_fill_in(words))
    check_file(given.markdown)
    if bool(given.MODELS) == (given.papers is not None):
        raise ConfigError("name one model or more, or --papers: kinemix complexity tsm_resnet50")
    if given.papers is not None:
        return _compare_papers(given.papers, given.markdown, given.format)
    if given.markdown is not None:
        raise ConfigError("--markdown is the page of the published counts: give it with --papers")

    from kinemix.cli.network_tables import print_costs

    costs, failed = [], []
    for name in given.MODELS:
        try:
            costs.append(_measure(name, given))
        except ConfigError as error:  # of one network: the others are counted all the same
            failed.append(error)
    if given.format == "json" and costs:
        print(json.dumps(costs, indent=2))
    elif costs:
        print_costs(costs)
    for reason in failed:
        print(f"kinemix: error: {reason}", file=sys.stderr)
    return 2 if failed else 0


def run_list(words: list[str]) -> int:
    """``kinemix list``, ``--papers`` or ``--support``."""
    usage = "[PATTERN], or --papers [PAPER], or --support [--markdown FILE]"
    options = Options("list", usage, VERBS["list"])
    options.add("PATTERN", str, "*", nargs="?", about="shell pattern for the names that are shown")
    options.add("--papers", Papers | None, about="every row of the papers' tables; of one paper, or all")
    options.add(
        "--support", bool, False, about="try every module and clip network: precisions, compile, export"
    )
    options.add("--markdown", str | None, about="with --support: write a page instead of a table")
    options.add("--format", Literal["table", "json"], "table", about="of the output")
    given = options.parse(_fill_in(words))
    check_file(given.markdown)
    if given.papers is not None and given.support:
        raise ConfigError("--papers and --support: give one of them")
    if given.support:
        return _try_networks(given.PATTERN, given.markdown, given.format)
    if given.markdown is not None:
        raise ConfigError("--markdown is the page of what every module can do: give it with --support")

    from kinemix.cli.network_tables import print_overview, print_rows

    if given.papers is not None:
        from kinemix.evaluate.papers import list_rows

        rows = list_rows(None if given.papers == "all" else given.papers)
        print_rows([row for row in rows if fnmatch(row.model or "", given.PATTERN)], form=given.format)
        return 0
    house = _describe_house(given.PATTERN)
    if not any(house.values()):
        raise ConfigError(
            f"nothing is called {given.PATTERN!r}: try kinemix list 'tsm*', or without a pattern"
        )
    if given.format == "json":
        print(json.dumps(house, indent=2))
    else:
        print_overview(house)
    return 0


def _declare_complexity() -> Options:
    usage = "MODEL [MODEL ...] [--OPTION VALUE ...], or --papers [PAPER] [--markdown FILE]"
    options = Options("complexity", usage, VERBS["complexity"])
    options.add("MODELS", str, [], nargs="*", about="<module>_<backbone>; kinemix models lists them")
    options.add("--num_classes", int, 400, about="size of the classifier")
    options.add("--num_frames", int, 8, about="frames a clip; --frames is short for it")
    options.add(
        "--size", int | tuple[int, int] | None, about="height and width in pixels; by default the backbone's"
    )
    options.add("--model_options", dict[str, Any], {}, about="the temporal module's options, and placement")
    options.add("--backbone_options", dict[str, Any], {}, about="passed to the backbone's constructor")
    options.add("--batch_size", int, 1, about="clips at a time, for memory and times")
    options.add("--no_latency", bool, False, about="measure no times: then nothing is computed at all")
    options.add("--runs", int, 7, about="timed runs; their median counts")
    options.add("--seconds", float, 30.0, about="of timing, after which no further run of a kind is begun")
    options.add("--threads", int | None, about="of the processor; by default torch's own number")
    options.add("--device", str, "cpu", about="where times are measured: cpu, cuda, cuda:1")
    options.add("--papers", Papers | None, about="every published count beside ours; one paper's, or all")
    options.add("--markdown", str | None, about="with --papers: write a page instead of a table")
    options.add("--format", Literal["table", "json"], "table", about="of the output")
    return options


def _fill_in(words: list[str]) -> list[str]:
    """``--papers`` alone means all of them, and ``--frames`` is ``--num_frames``."""
    filled = []
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        name, equals, value = word.partition("=")
        if name == "--frames":
            word = f"--num_frames{equals}{value}"
        elif word == "--papers" and following.startswith("-"):
            word = "--papers=all"
        filled.append(word)
    return filled


def _measure(name: str, given: Any) -> dict[str, Any]:
    """What one network costs, as plain data."""
    import torch

    from kinemix.engine.settle import build_model
    from kinemix.evaluate.complexity import measure_complexity
    from kinemix.evaluate.latency import find_device, measure_latency
    from kinemix.evaluate.memory import measure_memory

    device = find_device(given.device)
    config = from_dict(
        TrainConfig,
        {
            "model": name,
            "size": given.size,
            "model_options": given.model_options,
            "backbone_options": given.backbone_options,
            "protocol": {"num_frames": given.num_frames},
        },
    )
    with torch.device("meta"):
        model = build_model(config, num_classes=given.num_classes, pretrained=False)
    cost = measure_complexity(model)
    memory = measure_memory(model, batch_size=given.batch_size)
    latency: Latency | None = None
    if not given.no_latency:
        from kinemix.engine.progress import CountBar

        model = build_model(config, num_classes=given.num_classes, pretrained=False).to(device)
        with CountBar(f"timing {name}", total=2 * (given.runs + 1)) as bar:
            latency = measure_latency(
                model,
                batch_size=given.batch_size,
                runs=given.runs,
                seconds=given.seconds,
                threads=given.threads,
                progress=lambda mode, done, most: bar.reach(done + (most if mode == "training" else 0)),
            )
    return {
        "model": name,
        "num_classes": given.num_classes,
        "num_frames": cost.num_frames,
        "input_size": list(cost.input_size),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "recurrent_macs": cost.recurrent_macs,
        "added_parameters": cost.added_parameters,
        "added_macs": cost.added_macs,
        "batch_size": given.batch_size,
        "peak_activation_bytes": {"inference": memory.inference, "training": memory.training},
        "latency": None if latency is None else asdict(latency),
    }


def _compare_papers(paper: str, markdown: str | None, form: str) -> int:
    """Every published count beside ours."""
    from kinemix.cli.network_tables import print_comparisons
    from kinemix.engine.progress import CountBar
    from kinemix.evaluate.fidelity import compare_rows, describe_comparison, write_fidelity
    from kinemix.evaluate.papers import list_rows

    rows = list_rows(None if paper == "all" else paper)
    with CountBar("counting", total=len(rows)) as bar:
        compared = compare_rows(rows, progress=bar.reach)
    if markdown is not None:
        write_file(markdown, write_fidelity(compared))
        print(markdown)
    elif form == "json":
        print(json.dumps([describe_comparison(c) for c in compared], indent=2, ensure_ascii=False))
    else:
        print_comparisons(compared)
    return 0


def _try_networks(pattern: str, markdown: str | None, form: str) -> int:
    """What every module of the shelf and every clip network can do."""
    from kinemix.cli.network_tables import print_support
    from kinemix.engine.progress import CountBar
    from kinemix.evaluate.support import check_networks, list_networks, write_support

    names = [name for name in list_networks() if fnmatch(name, pattern)]
    if not names:
        raise ConfigError(
            f"no network of the matrix matches {pattern!r}: it has {', '.join(list_networks())}"
        )
    with CountBar("trying networks", total=len(names)) as bar:
        matrix = check_networks(names, progress=bar.reach)
    if markdown is not None:
        write_file(markdown, write_support(matrix))
        print(markdown)
    elif form == "json":
        print(
            json.dumps({name: [asdict(answer) for answer in row] for name, row in matrix.items()}, indent=2)
        )
    else:
        print_support(matrix)
    return 0


def _describe_house(pattern: str) -> dict[str, Any]:
    """What there is, as plain data: names that match the pattern, and how many backbones do."""
    from kinemix.data.sources import DATASETS
    from kinemix.models.backbones import is_clip_network, list_backbones
    from kinemix.models.factory import NICKNAMES
    from kinemix.models.module_options import list_options
    from kinemix.temporal import shelf

    modules = {name: shelf.get(name) for name in shelf.names()}
    backbones = list_backbones(pattern)
    return {
        "modules": {
            name: {
                "aliases": list(module.aliases),
                "about": (module.__doc__ or "").strip().partition("\n")[0].replace("``", ""),
                "options": [option for several in list_options(module) for option in several],
            }
            for name, module in modules.items()
            if fnmatch(name, pattern)
        },
        "image_backbones": sum(not is_clip_network(name) for name in backbones),
        "clip_networks": [name for name in backbones if is_clip_network(name)],
        "nicknames": {name: full for name, full in NICKNAMES.items() if fnmatch(name, pattern)},
        "datasets": [name for name in DATASETS.names() if fnmatch(name, pattern)],
    }
