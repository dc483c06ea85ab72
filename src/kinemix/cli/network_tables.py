"""Tables about networks: costs, published counts beside ours, rows of papers, what works."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from kinemix.cli.tables import _open_console, _print_line, _start_table
from kinemix.evaluate.fidelity import Comparison, describe_network, explain
from kinemix.evaluate.papers import TITLES, Row
from kinemix.evaluate.support import WAYS, Support


def print_costs(costs: Sequence[Mapping[str, Any]]) -> None:
    """Parameters, multiply-adds, memory and times, one network a row, and how they were found."""
    console = _open_console()
    table = _start_table(
        left=("model", "clip"),
        right=("M params", "GMACs", "recurrent", "MiB eval", "MiB train", "ms forward", "ms backward"),
    )
    for cost in costs:
        memory, latency = cost["peak_activation_bytes"], cost["latency"]
        height, width = cost["input_size"]
        table.add_row(
            cost["model"],
            f"{cost['num_frames']} x {height} x {width}",
            f"{cost['parameters'] / 1e6:.3f}",
            f"{cost['macs'] / 1e9:.3f}",
            f"{cost['recurrent_macs'] / 1e9:.3f}",
            f"{memory['inference'] / 2**20:.0f}",
            f"{memory['training'] / 2**20:.0f}",
            *(
                ["-", "-"]
                if latency is None
                else [_milliseconds(latency[k]) for k in ("forward", "backward")]
            ),
        )
    console.print(table)
    clips = costs[0]["batch_size"]
    batch = "one clip" if clips == 1 else f"{clips} clips"
    notes = [
        f"{costs[0]['num_classes']} classes. GMACs: multiply-adds of convolutions and matrix products for one clip "
        "(many papers call them FLOPs), recurrent cells included.",
        f"MiB: the most that activations of {batch} take at one time, in evaluation and in training; without "
        "weights, their gradients, and scratch space of kernels.",
    ]
    for cost in costs:
        if (latency := cost["latency"]) is not None:
            line = (
                f"{cost['model']}: times for {batch}, median of {latency['runs']} forward runs in evaluation and "
                f"{latency['training_runs']} backward runs in training; slowest over quickest "
                f"{latency['spread']:.2f}; {latency['device']}"
            )
            if latency["peak_memory"] is not None:
                tested, trained = (f"{value / 2**20:.0f}" for value in latency["peak_memory"])
                line += f"; torch's own peak: {tested} MiB, in training {trained} MiB"
            notes.append(line)
    for note in notes:
        _print_line(console, note)


def print_comparisons(compared: Sequence[Comparison]) -> None:
    """Every published count beside ours, a table a paper, and under it why where they differ."""
    console = _open_console()
    for paper, group in groupby(compared, key=lambda c: c.row.paper):
        _print_line(console, TITLES[paper])
        table = _start_table(
            left=("table", "row", "network here"),
            right=("M params", "ours", "ratio", "GFLOPs", "GMACs ours", "ratio"),
        )
        reasons: dict[str, list[str]] = {}
        for c in group:
            table.add_row(
                c.row.table,
                c.row.label + (f" ({c.row.about})" if c.row.about else ""),
                describe_network(c.row) or "-",
                c.row.parameters or "",
                "" if c.parameters is None else f"{c.parameters / 1e6:.3f}",
                "" if c.parameters_ratio is None else f"{c.parameters_ratio:.3f}",
                (c.row.flops or "") + (" *" if c.row.flops and c.row.unit == "2 x MACs" else ""),
                "" if c.macs is None else f"{c.macs / 1e9:.3f}",
                "" if c.macs_ratio is None else f"{c.macs_ratio:.3f}",
            )
            if remark := explain(c):
                reasons.setdefault(remark, []).append(f"{c.row.table} {c.row.label}")
        console.print(table)
        for remark, rows in reasons.items():
            _print_line(console, f"{', '.join(rows)}: {remark}")
        _print_line(console, "")
    _print_line(
        console, "* two operations for each multiply-add; the ratio is of multiply-adds, ours over theirs"
    )


def print_rows(rows: Sequence[Row], *, form: str) -> None:
    """Rows of the papers' tables, with the network that each one is here."""
    if form == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    console = _open_console()
    for paper, group in groupby(rows, key=lambda row: row.paper):
        _print_line(console, TITLES[paper])
        table = _start_table(
            left=("table", "row", "network here", "clip", "printed"), right=("M params", "GFLOPs")
        )
        for row in group:
            clip = f"{'+'.join(str(f) for f, _ in row.members) or row.num_frames} x {row.size}"
            table.add_row(
                row.table,
                row.label + (f" ({row.about})" if row.about else ""),
                describe_network(row) or "-",
                clip if row.model else "",
                ", ".join(f"{name} {value:g}" for name, value in row.results.items()),
                row.parameters or "",
                (row.flops or "") + (f" x {row.views}" if row.views else ""),
            )
        console.print(table)


def print_support(matrix: Mapping[str, Sequence[Support]]) -> None:
    """What each network can do."""
    table = _start_table(left=("network", *WAYS), right=())
    for name, row in matrix.items():
        table.add_row(name, *map(str, row))
    _open_console().print(table)


def print_overview(overview: Mapping[str, Any]) -> None:
    """Modules, backbones, networks and datasets, in short."""
    console = _open_console()
    if overview["modules"]:
        table = _start_table(
            left=("temporal module", "also called", "what it does", "its model_options"), right=()
        )
        for name, module in overview["modules"].items():
            table.add_row(name, ", ".join(module["aliases"]), module["about"], ", ".join(module["options"]))
        console.print(table)
    lines = (
        ("clip networks", ", ".join(overview["clip_networks"])),
        ("papers' names", ", ".join(f"{n} = {full}" for n, full in overview["nicknames"].items())),
        ("datasets", ", ".join(overview["datasets"])),
    )
    _print_line(console, f"{overview['image_backbones']} image backbones")
    for heading, names in lines:
        if names:
            _print_line(console, f"{heading}: {names}")
    _print_line(
        console,
        "a network is <module>_<backbone>, or a clip network by its own name; `kinemix models PATTERN` lists them, "
        "`kinemix list --papers` names those of every table",
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
