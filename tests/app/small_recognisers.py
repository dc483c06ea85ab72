"""Small networks with random weights, as `kinemix.load` gives them, and as run directories."""

from pathlib import Path

import torch

import kinemix
from kinemix.config import Protocol
from kinemix.data.catalog.motion import CLASSES
from kinemix.deploy.predict import Recogniser
from kinemix.evaluate.protocol import protocol_to_dict
from kinemix.label_space import LabelSpace, label_space_to_dict
from kinemix.models.checkpoint import save_checkpoint

SIZE = 32


def make_recogniser(name: str, *, space: LabelSpace | None = None, **protocol: int) -> Recogniser:
    """A network with random weights whose answers differ from clip to clip and from order to order."""
    space = space or LabelSpace(class_names=CLASSES)
    num_classes = dict(space.tasks) or len(space.class_names)
    torch.manual_seed(3)
    model = kinemix.create_model(name, num_classes=num_classes, num_frames=4, input_size=SIZE).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return Recogniser(model, protocol=Protocol(input=model.input_spec, num_frames=4, **protocol), space=space)


def save_run(folder: Path, recogniser: Recogniser) -> Path:
    """A run directory, as far as predictions need one."""
    metadata = {
        "protocol": protocol_to_dict(recogniser.protocol),
        "class_names": list(recogniser.class_names),
        "label_space": label_space_to_dict(recogniser.space),
        "epoch": 1,
    }
    save_checkpoint(folder / "best", model=recogniser.model, metadata=metadata)
    return folder
