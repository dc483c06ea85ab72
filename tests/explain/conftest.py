"""Small networks as `kinemix.load` gives them, and a few clips of `motion`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kinemix
from kinemix.config import Protocol
from kinemix.data.catalog.motion import CLASSES, make_motion
from kinemix.deploy.predict import Recogniser
from kinemix.label_space import LabelSpace
from kinemix.models.checkpoint import save_checkpoint

SMALL = {"channels": [8, 8, 8, 16], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 8}
SIZE = 32


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    """One thread; and no gradients, which whoever needs them must switch on."""
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip a class to train on, and two to test on."""
    folder = tmp_path_factory.mktemp("data") / "motion"
    return make_motion(folder, train_per_class=1, val_per_class=2, size=32, num_frames=12)


def make_trained(
    name: str = "mstnet_resnet18",
    *,
    num_frames: int = 6,
    class_names: tuple[str, ...] = CLASSES,
    **options: Any,
) -> Recogniser:
    """A network with random weights that is heard: none of its branches starts at zero."""
    torch.manual_seed(3)
    given = {"input_size": SIZE, "backbone_options": SMALL if name.endswith("resnet18") else {}} | options
    model = kinemix.create_model(name, num_classes=len(class_names), num_frames=num_frames, **given).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(model.backbone.get_submodule(model.classifier).weight, std=0.5)
    protocol = Protocol(input=model.input_spec, num_frames=num_frames)
    return Recogniser(model, protocol=protocol, space=LabelSpace(class_names=class_names))


@pytest.fixture
def trained() -> Callable[..., Recogniser]:
    """``trained(name="mstnet_resnet18", num_frames=6, ...)``."""
    return make_trained


@pytest.fixture
def save_run(motion: Path, tmp_path: Path) -> Callable[..., Path]:
    """``save_run(folder_name, recogniser)``: a run directory as far as tests, predictions and pictures need one."""

    def save(name: str, recogniser: Recogniser) -> Path:
        from kinemix.config import DataConfig, to_dict
        from kinemix.evaluate.protocol import protocol_to_dict

        metadata = {
            "protocol": protocol_to_dict(recogniser.protocol),
            "class_names": list(recogniser.class_names),
            "mirrored_labels": None,
            "epoch": 1,
            "config": {"data": to_dict(DataConfig(source=str(motion), workers=0))},
        }
        save_checkpoint(tmp_path / name / "best", model=recogniser.model, metadata=metadata)
        return tmp_path / name

    return save
