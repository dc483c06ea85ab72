"""What time costs: forward and training-step time of temporal modules over the plain image network.

    python benchmarks/temporal_overhead.py
    python benchmarks/temporal_overhead.py --threads 4 --rounds 21 --modules mixtconv --json overhead.json

All networks are timed in one interleaved run: each round runs every one of them once, in turn, and divides by
the plain network's time in the same round; the table shows the median of these ratios and their middle half,
which a busy machine disturbs far less than the times themselves. ``permuted`` is MixTConv in the way of the
paper's text: reshape to ``(B H W) C T``, one ``nn.Conv1d`` a channel group, concatenate, and back.

A training step is forward, cross entropy, backward and SGD with momentum; the rate is zero, so that every
round meets the same weights.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kinemix
from kinemix.temporal import Insertion, MixedTemporalConv, Site, TemporalModule
from kinemix.temporal.shift_and_add import is_channels_last

NUM_CLASSES = 174


class PermutedMixedConv(TemporalModule):
    """MixTConv as section 3.1 of the paper describes it, by permuting to ``(B H W) C T``."""

    name: ClassVar[str] = "permuted"
    placements: ClassVar[Mapping[str, Insertion]] = MixedTemporalConv.placements

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        mixed = MixedTemporalConv(site)
        self.sizes = mixed.group_sizes
        self.convs = nn.ModuleList()
        for weight in mixed.weights:
            size, kernel = weight.shape
            conv = nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=size, bias=False)
            conv.load_state_dict({"weight": weight.detach().unsqueeze(1)})
            self.convs.append(conv)

    def forward(self, clip: Tensor) -> Tensor:
        B, T, C, H, W = clip.shape
        pixels = clip.permute(0, 3, 4, 2, 1).reshape(B * H * W, C, T)
        parts = [conv(part) for conv, part in zip(self.convs, pixels.split(self.sizes, 1), strict=True)]
        out = torch.cat(parts, dim=1).view(B, H, W, C, T)
        if is_channels_last(clip):
            return out.permute(0, 4, 1, 2, 3).contiguous().permute(0, 1, 4, 2, 3)
        return out.permute(0, 4, 3, 1, 2).contiguous()


def make_networks(options: argparse.Namespace) -> dict[str, nn.Module]:
    """The plain network and one for each module, with the same backbone weights."""
    networks: dict[str, nn.Module] = {}
    for module in ["plain", *options.modules]:
        torch.manual_seed(0)
        plain = kinemix.create_model(
            f"tsn_{options.backbone}",
            num_classes=NUM_CLASSES,
            num_frames=options.frames,
            input_size=options.size,
        )
        if module == "plain":
            networks[module] = plain
            continue
        kind = PermutedMixedConv if module == "permuted" else module
        networks[module] = kinemix.temporalize(
            plain.backbone, kind, num_frames=options.frames, input_size=options.size
        )
    return {name: network.to(options.device) for name, network in networks.items()}


def make_clip(options: argparse.Namespace, memory_format: torch.memory_format) -> Tensor:
    frames = torch.randn(options.clips * options.frames, 3, options.size, options.size, device=options.device)
    return frames.contiguous(memory_format=memory_format).unflatten(0, (options.clips, options.frames))


def make_forward(network: nn.Module, clip: Tensor) -> Callable[[], None]:
    def run() -> None:
        network.eval()
        with torch.inference_mode():
            network(clip)

    return run


def make_training_step(network: nn.Module, clip: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9)
    labels = torch.zeros(clip.shape[0], dtype=torch.long, device=clip.device)

    def run() -> None:
        network.train()
        F.cross_entropy(network(clip), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def time_interleaved(
    runs: Mapping[str, Callable[[], None]], *, rounds: int, warmup: int, device: str
) -> dict[str, list[float]]:
    """Seconds of every run in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warmup + rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device != "cpu":
                torch.accelerator.synchronize()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summarize(seconds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Median time, and the ratio to the plain network: quartiles over the rounds."""
    rows = {}
    for name, times in seconds.items():
        ratios = [own / plain for own, plain in zip(times, seconds["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        rows[name] = {
            "milliseconds": 1e3 * statistics.median(times),
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
        }
    return rows


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="forward and training time of temporal modules over the plain network"
    )
    parser.add_argument("--modules", nargs="+", default=["tsm", "mixtconv", "conv1d", "permuted"])
    parser.add_argument("--formats", nargs="+", default=["contiguous", "channels_last"])
    parser.add_argument("--passes", nargs="+", default=["forward", "training"])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    conditions = {
        "backbone": options.backbone,
        "clip": [options.clips, options.frames, 3, options.size, options.size],
        "threads": options.threads,
        "rounds": options.rounds,
        "torch": torch.__version__,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
    }
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    print(f"{'format':<14}{'pass':<10}{'module':<10}{'ms':>8}{'x plain':>9}  middle half")
    results = []
    for name in options.formats:
        memory_format = getattr(torch, "contiguous_format" if name == "contiguous" else name)
        networks = make_networks(options)
        for network in networks.values():
            network.to(memory_format=memory_format)
        clip = make_clip(options, memory_format)
        for kind in options.passes:
            make = make_forward if kind == "forward" else make_training_step
            runs = {module: make(network, clip) for module, network in networks.items()}
            rows = summarize(
                time_interleaved(runs, rounds=options.rounds, warmup=options.warmup, device=options.device)
            )
            for module, row in rows.items():
                results.append({"format": name, "pass": kind, "module": module, **row})
                print(
                    f"{name:<14}{kind:<10}{module:<10}{row['milliseconds']:>8.0f}{row['ratio']:>9.3f}"
                    f"  {row['ratio_low']:.3f} .. {row['ratio_high']:.3f}",
                    flush=True,
                )
    if options.json is not None:
        options.json.write_text(json.dumps({"conditions": conditions, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
