"""How much of the network's own speed a training keeps, and whether the bar tells where the rest goes.

Videos are made and prepared (``kinemix prepare``). By turns, a network is trained on them by the ordinary API, and
takes as many steps (forward, cross entropy, backward, SGD) on batches that lie in memory, with the same threads.
Printed are the medians over the turns: clips a second of both, their ratio, what is missing to one, and the share of
waiting for data that the bar shows. Clips a second of a training are those of the log's clock, from the first step of
an epoch to its last; its first epoch, in which the loader starts, does not count.

    export OMP_WAIT_POLICY=PASSIVE                      as the command line of kinemix does
    python benchmarks/training.py                       a large network, and one that is small beside decoding
    python benchmarks/training.py --networks large --turns 5 --workers 2
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch.nn import functional as F

import kinemix
from kinemix.config import DataConfig, MachineConfig, OptimConfig, Protocol, TrainConfig
from kinemix.data import Batch, build_train_loader, open_splits
from kinemix.data.catalog.motion import make_motion
from kinemix.data.prepare.run import prepare_dataset
from kinemix.data.prepare.settings import Settings
from kinemix.engine.environment import count_cores
from kinemix.engine.logbook import read_log
from kinemix.engine.train import train


@dataclass(frozen=True)
class Network:
    """What is trained, on how many clips at once, on how many videos of each of twelve classes, and how often."""

    model: str
    frames: int
    size: int
    batch_size: int
    per_class: int
    epochs: int


NETWORKS = {
    "large": Network("mstnet_resnet50", frames=8, size=224, batch_size=4, per_class=3, epochs=2),
    "small": Network("mstnet_resnet18", frames=8, size=112, batch_size=8, per_class=8, epochs=5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--video_size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=count_cores())
    for field in fields(Network):
        parser.add_argument(f"--{field.name}", type=type(getattr(NETWORKS["large"], field.name)))
    arguments = parser.parse_args()
    given = {field.name: getattr(arguments, field.name) for field in fields(Network)}
    given = {name: value for name, value in given.items() if value is not None}
    print(
        f"{count_cores()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, OMP_WAIT_POLICY "
        f"{os.environ.get('OMP_WAIT_POLICY')}"
    )
    for kind in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            compare(replace(NETWORKS[kind], **given), Path(folder), arguments)


def compare(network: Network, folder: Path, arguments: argparse.Namespace) -> None:
    """Prepare videos, train and compute alone by turns, and print."""
    made = make_motion(
        folder / "made",
        grade="easy",
        train_per_class=network.per_class,
        val_per_class=1,
        size=arguments.video_size,
        num_frames=48,
    )
    prepare_dataset(str(made), folder / "prepared", settings=Settings(), time_clips=0)
    config = TrainConfig(
        data=DataConfig(source=str(folder / "prepared"), workers=arguments.workers),
        model=network.model,
        size=network.size,
        protocol=Protocol(num_frames=network.frames),
        optim=OptimConfig(epochs=network.epochs, batch_size=network.batch_size, lr=1e-3, dropout=0.0),
        machine=MachineConfig(accelerator="cpu", threads=arguments.threads),
        validate_every=None,
    )
    batches = load_batches(config)
    trained, alone, waiting = [], [], []
    for turn in range(1, arguments.turns + 1):
        run = train(replace(config, out=str(folder / f"{network.model}-{turn}")), quiet=True)
        rate, share = read_rate(run, network.batch_size)
        trained.append(rate)
        waiting.append(share)
        alone.append(time_alone(config, batches))
        print(
            f"turn {turn}: training {rate:.2f}, network alone {alone[-1]:.2f} clips/s, waiting {share:.1%}",
            flush=True,
        )
    ratio = statistics.median(one / other for one, other in zip(trained, alone, strict=True))
    clip = f"{network.batch_size} x {network.frames} x {network.size} px"
    print(
        f"{network.model}, {clip}, {arguments.threads} threads, {arguments.workers} workers, medians of "
        f"{arguments.turns} turns: training {statistics.median(trained):.2f}, network alone "
        f"{statistics.median(alone):.2f} clips/s: {ratio:.3f}; missing {1 - ratio:.1%}, waiting for data "
        f"{statistics.median(waiting):.1%}",
        flush=True,
    )


def load_batches(config: TrainConfig) -> list[Batch]:
    """The whole batches of an epoch, in memory."""
    samples = open_splits(config.data).train
    model = make_network(config, num_classes=len(samples.class_names))
    loader = build_train_loader(
        samples,
        protocol=replace(config.protocol, input=model.input_spec),
        augment=config.augment,
        batch_size=config.optim.batch_size,
        workers=0,
    )
    whole = config.optim.batch_size
    return [batch for batch in loader.epoch(0) if len(batch.labels) == whole]


def make_network(config: TrainConfig, *, num_classes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return kinemix.create_model(
        config.model, num_classes=num_classes, num_frames=config.protocol.num_frames, input_size=config.size
    )


def read_rate(run: Path, batch_size: int) -> tuple[float, float]:
    """Clips a second by the log's clock, and the share of waiting, of all epochs but the first."""
    epochs: dict[int, list[dict[str, float]]] = {}
    for record in read_log(run):
        epochs.setdefault(-int(-record["epoch"] // 1), []).append(record)
    clips = seconds = waited = stepped = 0.0
    for number, records in epochs.items():
        if number > 1:
            clips += batch_size * (len(records) - 1)
            seconds += records[-1]["time"] - records[0]["time"]
            for record in records[1:]:
                took = batch_size / record["clips_per_second"]
                stepped += took
                waited += took * record["waiting"]
    return clips / seconds, waited / stepped


def time_alone(config: TrainConfig, batches: list[Batch]) -> float:
    """Clips a second of training steps on what lies in memory, behind one step for warming up."""
    network = make_network(config, num_classes=1 + max(int(batch.labels.max()) for batch in batches)).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    started = 0.0
    for number, batch in enumerate([batches[0], *batches]):
        if number == 1:
            started = time.perf_counter()
        F.cross_entropy(network(batch.clips), batch.labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return sum(len(batch.labels) for batch in batches) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
