"""A small dataset, and the options of a small run on it."""

import pytest
from runs import MODEL

from kinemix.config import AugmentConfig, DataConfig, MachineConfig, OptimConfig, Protocol, TrainConfig
from kinemix.data.catalog.motion import make_motion


@pytest.fixture(scope="session")
def motion(tmp_path_factory):
    """Twelve classes, two training videos and one held-out video each."""
    folder = tmp_path_factory.mktemp("motion")
    return make_motion(folder, train_per_class=2, val_per_class=1, num_frames=8, size=32, workers=1)


@pytest.fixture
def config(motion, tmp_path):
    return TrainConfig(
        data=DataConfig(source=str(motion), workers=0),
        model=MODEL,
        size=32,
        protocol=Protocol(num_frames=4, crop_fraction=1.0),
        augment=AugmentConfig(flip="off", brightness=0.2),
        optim=OptimConfig(epochs=3, batch_size=5, lr=0.05, dropout=0.3),
        machine=MachineConfig(accelerator="cpu", threads=1),
        out=str(tmp_path / "run"),
    )
