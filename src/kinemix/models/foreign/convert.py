"""From a foreign file to a kinemix network: what the file proves, what the user says, and nothing guessed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kinemix.config import Protocol, TrainConfig, to_dict
from kinemix.errors import CheckpointError, ConfigError
from kinemix.models.checkpoint import save_checkpoint
from kinemix.models.factory import create_model, parse_name
from kinemix.models.foreign import gsm, mmaction, plain, tsn, x3d
from kinemix.models.foreign.files import ForeignFile, read_foreign
from kinemix.models.foreign.layout import Finding
from kinemix.models.foreign.report import Report, compare
from kinemix.models.networks import find_networks
from kinemix.models.video import VideoModel, name_plainly

_LAYOUTS = (gsm.examine, tsn.examine, mmaction.examine, x3d.examine, plain.examine)
"""Tried in this order; the last one takes every state dictionary."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A foreign file as a kinemix network.

    Attributes:
        file: it was read from.
        project: whose layout it has.
        model: with the file's weights.
        protocol: the project's test, with the network's input.
        report: what became of every tensor.
        assumptions: what the file does not say and was taken as the project always does it.
    """

    file: Path
    project: str
    model: VideoModel
    protocol: Protocol
    report: Report
    assumptions: tuple[str, ...]

    def save(
        self,
        folder: str | Path,
        *,
        class_names: Sequence[str],
        mirrored_labels: Sequence[int | None] | None = None,
        allow_missing: bool = False,
        allow_extra: bool = False,
    ) -> Path:
        """Write a checkpoint folder that :func:`kinemix.load` opens.

        Args:
            folder: new, or empty.
            class_names: one for each logit.
            mirrored_labels: for each class that of its mirror image, which ten crops need.
            allow_missing: leave tensors that the file lacks as a fresh network has them.
            allow_extra: drop tensors that the network lacks.

        Raises:
            CheckpointError: a tensor found no place, or the folder cannot be written.
            ConfigError: another number of names than of logits.
        """
        self.report.check(allow_missing=allow_missing, allow_extra=allow_extra)
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(f"{folder}: exists and is not an empty folder: choose another --out")
        if len(class_names) != self.model.num_classes:
            raise ConfigError(
                f"{len(class_names)} class names for a network of {self.model.num_classes} classes: "
                "give --labels a file with one name a line, in the order of the network's logits"
            )
        config = TrainConfig(model=self.model.description["name"], protocol=self.protocol)
        metadata = {
            "protocol": to_dict(self.protocol),
            "class_names": list(class_names),
            "mirrored_labels": None if mirrored_labels is None else list(mirrored_labels),
            "config": to_dict(config),
            "converted_from": {
                "file": self.file.name,
                "project": self.project,
                "tensors": self.report.count(),
            },
        }
        return save_checkpoint(folder, model=self.model, metadata=metadata)


def convert_checkpoint(
    path: str | Path,
    *,
    model: str | None = None,
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    sampling: Literal["sparse", "dense"] | None = None,
    frame_stride: int | None = None,
    num_clips: int | None = None,
    num_crops: Literal[1, 3, 10] | None = None,
    model_options: Mapping[str, Any] | None = None,
    backbone_options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Read a checkpoint of another project and build the network in it.

    Recognised are the repositories of TSN, TSM, MixTConv and GSM, MMAction2's TSN and TSM, X3D of PyTorchVideo
    and SlowFast, torchvision's video networks, and image networks of torchvision and timm. Nothing is saved,
    and what does not fit is only reported: see :meth:`Conversion.save`.

    Args:
        path: the file.
        model: the network's name, where the file leaves it open.
        num_frames: frames a clip, where the file leaves it open (most do).
        size: height and width in pixels; by default the network's own.
        sampling, frame_stride, num_clips, num_crops: of the protocol, if other than the project's.
        model_options: of the temporal module, beside those that the file proves.
        backbone_options: of the backbone.

    Raises:
        CheckpointError: the file cannot be read or used.
        ConfigError: something that it does not say must be given, or what is given contradicts it.
    """
    file = read_foreign(path)
    finding = next(found for examine in _LAYOUTS if (found := examine(file)) is not None)
    name = _choose_model(file, finding, model)
    asked = {
        "num_frames": num_frames,
        "sampling": sampling,
        "frame_stride": frame_stride,
        "num_clips": num_clips,
        "num_crops": num_crops,
    }
    protocol = _choose_protocol(file, finding, name, asked)
    options = {
        **finding.options,
        **(model_options or {}),
        "num_frames": protocol.num_frames,
        "input_size": size,
        "backbone_options": {**finding.options.get("backbone_options", {}), **(backbone_options or {})},
    }
    with torch.device("meta"):  # only to learn the classifier's name, which tells the number of classes
        blank = create_model(name, num_classes=1, **options)
    translated = _translate(finding, name, blank)
    key = f"{name_plainly(blank)[f'backbone.{blank.classifier}.weight']}"
    if key not in translated:
        raise CheckpointError(
            f"{file.path}: holds no classifier ({key} of {name}): to train from these weights, give the file to "
            "kinemix train; only a whole network can be converted"
        )
    network = create_model(name, num_classes=translated[key].shape[0], **options)
    plain_names = name_plainly(network)
    wanted = {plain_names[key]: tensor for key, tensor in network.state_dict().items()}
    fitting, report = compare(wanted, translated, file.state)
    full_names = {plain_name: full for full, plain_name in plain_names.items()}
    network.load_state_dict({full_names[key]: tensor for key, tensor in fitting.items()}, strict=False)
    return Conversion(
        file=file.path,
        project=finding.project,
        model=network.eval(),
        protocol=replace(protocol, input=network.input_spec),
        report=report,
        assumptions=finding.assumptions,
    )


def read_foreign_weights(path: str | Path, model: VideoModel) -> dict[str, Tensor]:
    """The tensors of another project's file by the plain names of a network of ours, which may have other modules.

    Args:
        path: the file.
        model: whose backbone the file's should be.

    Raises:
        CheckpointError: the file cannot be read.
    """
    file = read_foreign(path)
    finding = next(found for examine in _LAYOUTS if (found := examine(file)) is not None)
    return _translate(finding, model.description["name"], model)


def _translate(finding: Finding, name: str, model: VideoModel) -> dict[str, Tensor]:
    """The file's tensors by the plain names of our network: its backbone's translation, then the classifier's."""
    backbone = find_networks().get(parse_name(name)[1])
    translate = backbone.translate if backbone is not None and backbone.translate is not None else dict
    temporal = {key: tensor for key, tensor in finding.state.items() if ".temporal." in key}
    head = {key: tensor for key, tensor in finding.state.items() if _is_head(key, finding.classifier)}
    rest = {k: tensor for k, tensor in finding.state.items() if k not in temporal and k not in head}
    translated = dict(translate(rest))
    for key, tensor in temporal.items():
        host, _, own = key.partition(".temporal.")
        ours = next(iter(translate({f"{host}.weight": tensor}))).removesuffix(".weight")
        translated[f"{ours}.temporal.{own}"] = tensor
    classifier = name_plainly(model)[f"backbone.{model.classifier}.weight"].removesuffix(".weight")
    for key, tensor in head.items():
        translated[f"{classifier}.{key.rpartition('.')[2]}"] = tensor
    return translated


def _is_head(key: str, classifier: str | None) -> bool:
    return classifier is not None and key.rpartition(".")[0] == classifier


def _choose_model(file: ForeignFile, finding: Finding, given: str | None) -> str:
    if given is None:
        if finding.model is not None:
            return finding.model
        choice = f"one of {', '.join(finding.candidates)}" if finding.candidates else "<module>_<backbone>"
        raise ConfigError(f"{file.path}: {finding.open_question}: name the network with --model, {choice}")
    module = parse_name(given)[0].name
    if finding.module not in (None, module):
        raise ConfigError(
            f"{file.path}: --model {given}, but the file holds {finding.model}: its tensors' names prove it; leave "
            "--model out"
        )
    return given


def _choose_protocol(file: ForeignFile, finding: Finding, name: str, asked: Mapping[str, Any]) -> Protocol:
    """The project's protocol, changed as asked; only the number of frames may not stay open."""
    known: dict[str, Any] = {}
    if name in finding.clips:
        known["num_frames"], known["frame_stride"] = finding.clips[name]
    known |= {option: value for option, value in asked.items() if value is not None}
    for option, value in known.items():
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"{option} is {value}: it must be 1 or more")
    if "num_frames" not in known:
        hint = re.search(r"(?:seg(?:ment)?s?_?|1x1x)(\d+)", file.path.name)
        said = f" (its name says {hint[1]})" if hint else ""
        raise ConfigError(
            f"{file.path}: the file does not say how many frames a clip {name} was trained on: give "
            f"--num_frames{said}"
        )
    return replace(finding.protocol, **known)
