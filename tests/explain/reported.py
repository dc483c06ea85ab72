"""A run to report on, with as many made-up clips as a test wants."""

from dataclasses import replace

import torch

from answers import draw_scores
from kinemix.config import AugmentConfig, DataConfig, MachineConfig, OptimConfig, Protocol, TrainConfig
from kinemix.data.catalog.motion import make_motion
from kinemix.engine.tested_run import TestedRun, open_tested_run
from kinemix.engine.train import train
from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
from kinemix.models.factory import create_model


@torch.enable_grad()  # whatever the tests around it do
def train_small(folder, *, model="tsn_test_resnet.r160_in1k"):
    """One epoch on twelve classes of small videos."""
    videos = folder / "motion"
    if not videos.exists():
        make_motion(videos, train_per_class=2, val_per_class=1, num_frames=8, size=32, workers=1)
    return train(
        TrainConfig(
            data=DataConfig(source=str(videos), workers=0),
            model=model,
            size=32,
            protocol=Protocol(num_frames=4, crop_fraction=1.0),
            augment=AugmentConfig(flip="off"),
            optim=OptimConfig(epochs=1, batch_size=6),
            machine=MachineConfig(accelerator="cpu", threads=1),
            out=str(folder / model),
        )
    )


class NoiseVideos:
    """Videos of noise: no picture of them is small."""

    def open(self, name):
        class Reader:
            num_frames = 8

            def read(self, indices):
                return torch.randint(0, 256, (len(indices), 3, 240, 320), dtype=torch.uint8)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        return Reader()


class ManyClips(TestedRun):
    """A run whose tests and videos are made up."""

    def open_videos(self):
        return NoiseVideos()


def open_with_many_clips(run, *, num_classes, per_class, size=32):
    """The run with an untrained network of so many classes, and tests made up as of one that sees order."""
    tested = open_tested_run(run, orders=(), workers=0)
    folder = tested.directory / f"of-{num_classes}-classes"
    model, metadata = load_checkpoint(tested.folder)
    description = {**model.description, "num_classes": num_classes}
    save_checkpoint(folder, model=create_model(**description), metadata=metadata)
    forward = draw_scores(num_classes, per_class, share=0.7, seed=1)
    reverse = replace(draw_scores(num_classes, per_class, share=0.1, seed=2), order="reverse")
    shuffle = replace(draw_scores(num_classes, per_class, share=0.3, seed=3), order="shuffle")
    tests = {"forward": forward, "reverse": reverse, "shuffle": shuffle}
    spec = replace(tested.protocol.input, size=(size, size))
    protocol = replace(tested.protocol, num_frames=8, input=spec)
    values = {name: getattr(tested, name) for name in tested.__dataclass_fields__}
    return ManyClips(
        **{**values, "folder": folder, "protocol": protocol, "tests": tests, "space": forward.space}
    )
