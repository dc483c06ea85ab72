"""Two small networks that answer to clips of `motion`, in folders as training leaves them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_recognisers import make_recogniser, save_run

from kinemix.app.service import Service
from kinemix.data.catalog.motion import make_motion
from kinemix.deploy.predict import Recogniser, load


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A clip of each class."""
    folder = tmp_path_factory.mktemp("clips")
    make_motion(folder / "motion", train_per_class=1, val_per_class=1, size=48, num_frames=12)
    return sorted((folder / "motion" / "val").rglob("*.mp4"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``order`` sees the order of frames and looks at 2 clips of 3 crops, ``plain`` sees none."""
    folder = tmp_path_factory.mktemp("runs")
    order = make_recogniser("mstnet_test_resnet.r160_in1k", num_clips=2, num_crops=3)
    plain = make_recogniser("tsn_test_resnet.r160_in1k")
    return {"order": save_run(folder / "order", order), "plain": save_run(folder / "plain", plain)}


@pytest.fixture(scope="session")
def networks(runs: dict[str, Path]) -> dict[str, Recogniser]:
    return {name: load(run, device="cpu") for name, run in runs.items()}


@pytest.fixture
def service(networks: dict[str, Recogniser]) -> Iterator[Service]:
    with Service(networks) as service:
        yield service
