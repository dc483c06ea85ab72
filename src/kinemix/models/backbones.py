"""The only door to timm and torchvision: networks by name, one logit vector a frame or a clip.

A name is any of timm's (``resnet50``, ``convnext_tiny.fb_in1k``), ``torchvision.`` and one of torchvision's
CNNs (``torchvision.resnet50``) or video networks (``torchvision.r3d_18``), or one of our own
(:mod:`kinemix.models.networks`: ``bn_inception``, ``x3d_s``). Published weights are loaded here, before any
surgery.
"""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as torchvision_models

from kinemix.config import Color, InputSpec
from kinemix.errors import ConfigError, KinemixError, did_you_mean
from kinemix.models.networks import find_networks
from kinemix.models.trace import Trace

CLASSIFIER_STD = 0.001
"""Standard deviation of a fresh classifier's weights, as in TSN; its bias starts at zero."""

TORCHVISION = "torchvision."

# What loading may raise; a file of pickled code is refused as one.
_UNREADABLE = (OSError, RuntimeError, SafetensorError, UnpicklingError)

# torchvision's shelf of classifiers holds transformers as well, which have no convolutional blocks.
_NOT_CNNS = ("vit_*", "swin_*", "maxvit_*")

# Here the option `dropout` means the attention's, not the classifier's.
_DROPS_INSIDE = ("swin3d_*",)


@dataclass(frozen=True)
class Backbone:
    """An image or clip network, and what it wants to see.

    Attributes:
        network: ``N C H W`` to ``N x classes``; or, if it ``takes_clips``, ``N C T H W``.
        input_spec: size, colour and normalisation.
        takes_clips: whether it is a clip network, which sees time by itself.
        any_length, any_size: whether it takes other clips than those of the length and size that it was made for.
    """

    network: nn.Module
    input_spec: InputSpec
    takes_clips: bool = False
    any_length: bool = True
    any_size: bool = True


@cache
def _all_names() -> tuple[str, ...]:
    names = torchvision_models.list_models(module=torchvision_models)
    cnns = [TORCHVISION + n for n in names if not any(fnmatch(n, p) for p in _NOT_CNNS)]
    return tuple(dict.fromkeys((*timm.list_models(), *cnns, *_torchvision_clip_networks(), *find_networks())))


@cache
def _torchvision_clip_networks() -> tuple[str, ...]:
    return tuple(
        TORCHVISION + name for name in torchvision_models.list_models(module=torchvision_models.video)
    )


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of all backbones that match a shell pattern (``"resnet*"``), timm's first."""
    return [name for name in _all_names() if fnmatch(name, pattern)]


def is_backbone(name: str) -> bool:
    """Whether there is a backbone of this name; timm's may carry a weight tag (``resnet50.a1_in1k``)."""
    return name in _all_names() or name.partition(".")[0] in _all_names()


def is_clip_network(name: str) -> bool:
    """Whether the backbone of this name takes whole clips, ``N C T H W``."""
    own = find_networks()
    return own[name].takes_clips if name in own else name in _torchvision_clip_networks()


def create_backbone(
    name: str,
    *,
    num_classes: int,
    num_frames: int | None = None,
    pretrained: bool = False,
    input_size: int | tuple[int, int] | None = None,
    color: Color | None = None,
    dropout: float = 0.0,
    backbone_options: Mapping[str, Any] | None = None,
) -> Backbone:
    """Make an image or clip network with a classifier of ``num_classes``.

    The classifier starts from N(0, 0.001) with zero bias, as in TSN, unless published weights of the same
    number of classes are kept.

    Args:
        name: see the module's docstring.
        num_classes: logits a frame, or a clip.
        num_frames: frames a clip; some clip networks (torchvision's MViT) take one number only.
        pretrained: start from the published weights.
        input_size: height and width in pixels; by default the ones that the weights were made for.
        color: by default what the published weights were made for; ``gray`` sums the first convolution's
            published weights over colour.
        dropout: probability, before the classifier.
        backbone_options: passed to the constructor. A weights file on disk is named by timm's own
            ``{"pretrained_cfg_overlay": {"file": PATH}}``, or ``{"weights": PATH or NAME}`` for torchvision.

    Raises:
        ConfigError: no such backbone or option.
        KinemixError: the published weights cannot be had.
    """
    if not is_backbone(name):
        raise ConfigError(f"unknown backbone {name!r}: {did_you_mean(name, _all_names())}")
    architecture, _, tag = name.partition(".")
    if tag and name not in _all_names() and name not in (known := timm.list_pretrained(f"{architecture}.*")):
        raise ConfigError(f"{architecture!r} has no published weights {tag!r}: {did_you_mean(name, known)}")
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}: it must be 1 or more")
    if not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
        raise ConfigError(f"dropout is {dropout!r}: it must be at least 0 and below 1")
    own = find_networks().get(name)
    made_for: Color = own.input_spec.color if own else "rgb"
    color = made_for if color is None else color
    if pretrained and color not in (made_for, "gray"):
        raise ConfigError(
            f"{name}: the published weights were made for {made_for}, not {color}: use color={made_for!r}"
        )
    options = dict(backbone_options or {})
    make = _create_timm
    is_bound = False
    if own:
        make = _create_own
    elif name.startswith(TORCHVISION):
        make = _create_torchvision
        is_bound = _is_bound_to_clip(name)
    if is_bound:
        _check_clip(name, num_frames, input_size)
    network, spec = make(name, num_classes, pretrained, color, dropout, options)
    return Backbone(
        network,
        resize_spec(spec, input_size),
        takes_clips=is_clip_network(name),
        any_length=not is_bound,
        any_size=not is_bound,
    )


def read_input_spec(network: nn.Module, color: Color = "rgb") -> InputSpec:
    """What a timm network wants to see, from its own ``pretrained_cfg``; ImageNet's convention for others."""
    config = getattr(network, "pretrained_cfg", None) or {}
    size = tuple(config.get("input_size", (3, 224, 224)))[-2:]
    mean = tuple(config.get("mean", InputSpec.mean))
    std = tuple(config.get("std", InputSpec.std))
    return _make_spec((size[0], size[1]), mean, std, color)


def _make_spec(
    size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...], color: Color
) -> InputSpec:
    return _recolor(InputSpec(size=size, mean=mean, std=std), color)


def _recolor(spec: InputSpec, color: Color) -> InputSpec:
    """The spec for frames of another colour: statistics averaged for gray, turned round between rgb and bgr."""
    mean, std = spec.mean, spec.std
    if color == "gray":
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    elif color != spec.color:
        mean, std = mean[::-1], std[::-1]
    return replace(spec, color=color, mean=mean, std=std)


def find_classifier(network: nn.Module, trace: Trace) -> str:
    """Path of the layer that gives the logits: the last linear layer or convolution that ran.

    Raises:
        ConfigError: there is none.
    """
    for call in reversed(trace.calls):
        if issubclass(call.kind, (nn.Linear, nn.modules.conv._ConvNd)):
            return call.path
    raise ConfigError(
        f"{type(network).__name__} has no linear layer or convolution that could be a classifier"
    )


def resize_spec(spec: InputSpec, input_size: int | Sequence[int] | None) -> InputSpec:
    """The spec for another size: one number of pixels, height and width, or ``None`` for its own."""
    if input_size is None:
        return spec
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise ConfigError(f"input_size is {size}: give one number of pixels, or height and width")
    return replace(spec, size=size)


def init_classifier_(layer: nn.Module) -> None:
    """Weights from N(0, 0.001), bias zero."""
    if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d)):
        nn.init.normal_(layer.weight, std=CLASSIFIER_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


# ----------------------------------------------------------------------------------------------------- timm


def _create_timm(
    name: str, num_classes: int, pretrained: bool, color: Color, dropout: float, options: dict[str, Any]
) -> tuple[nn.Module, InputSpec]:
    given = {"num_classes": num_classes, "in_chans": 1 if color == "gray" else 3, **options}
    if dropout:
        given["drop_rate"] = dropout
    file = (options.get("pretrained_cfg_overlay") or {}).get("file")
    if pretrained and file is not None and not Path(file).is_file():
        raise KinemixError(f"{file}: there is no such weights file for {name!r}: check the path")
    try:
        network = timm.create_model(name, pretrained=pretrained, **given)
    except TypeError as error:
        raise ConfigError(f"backbone {name!r} does not take these options: {error}") from error
    except Exception as error:
        if not pretrained:
            raise ConfigError(f"backbone {name!r} cannot be made: {_one_line(error)}") from error
        raise _no_weights(name, error, "pretrained_cfg_overlay={'file': PATH}") from error
    kept = pretrained and network.pretrained_cfg.get("num_classes") == num_classes
    if not kept:
        classifier = network.get_classifier()
        for layer in classifier if isinstance(classifier, (tuple, list)) else [classifier]:
            init_classifier_(layer)
    return network, read_input_spec(network, color)


def _no_weights(name: str, error: Exception, option: str) -> KinemixError:
    return KinemixError(
        f"the published weights of {name!r} cannot be had ({_one_line(error)}): check the network, "
        f"name a file with backbone_options {option}, or use pretrained=False"
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# ---------------------------------------------------------------------------------------------- torchvision


def _create_torchvision(
    name: str, num_classes: int, pretrained: bool, color: Color, dropout: float, options: dict[str, Any]
) -> tuple[nn.Module, InputSpec]:
    builder = _find_builder(name)
    weights = options.pop("weights", "DEFAULT")
    takes = _constructor_parameters(builder)
    if any(fnmatch(name, TORCHVISION + pattern) for pattern in _DROPS_INSIDE):
        takes = takes - {"dropout"}
    if "aux_logits" in takes:
        # The auxiliary classifiers of GoogLeNet and Inception V3 would make training return a tuple.
        options = {"aux_logits": False, "init_weights": False, **options}
    if "dropout" in takes:
        options.setdefault("dropout", dropout)
    try:
        network = builder(weights=None, num_classes=num_classes, **options)
    except TypeError as error:
        raise ConfigError(f"backbone {name!r} does not take these options: {error}") from error
    if color == "gray":
        _make_stem_gray_(network)
    path = _last_layer(network)
    init_classifier_(network.get_submodule(path))
    if pretrained:
        _load_torchvision_(network, name, builder, weights, classifier=path)
    if dropout and "dropout" not in takes:
        layer = network.get_submodule(path)
        network.set_submodule(path, nn.Sequential(nn.Dropout(dropout), layer))
    preset = _find_weights(builder, weights).transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    if "transform_input" in takes:
        mean = std = (0.5, 0.5, 0.5)  # ported weights, which torchvision's own loading corrects for
    return network, _make_spec((preset.crop_size[0],) * 2, mean, std, color)


def _find_builder(name: str) -> Any:
    return torchvision_models.get_model_builder(name.removeprefix(TORCHVISION))


def _find_weights(builder: Any, name: str) -> Any:
    """The published weights of this name; the default ones for a file."""
    known = torchvision_models.get_model_weights(builder)
    return known[name] if name in known.__members__ else known.DEFAULT


def _is_bound_to_clip(name: str) -> bool:
    """Whether a clip network of torchvision has weights for every position (MViT)."""
    return "temporal_size" in _constructor_parameters(_find_builder(name))


def _check_clip(name: str, num_frames: int | None, input_size: int | Sequence[int] | None) -> None:
    """Raise a :class:`ConfigError` unless a network that is bound to a clip is asked for that clip.

    torchvision's builders of such networks have the length and size of the published weights written in.
    """
    made_for = torchvision_models.get_model_weights(_find_builder(name)).DEFAULT.meta
    length, size = made_for["min_temporal_size"], tuple(made_for["min_size"])
    asked = (num_frames or length, resize_spec(InputSpec(size=size), input_size).size)
    if asked != (length, size):
        raise ConfigError(
            f"{name} takes clips of {length} frames of {size} pixels only, not {asked[0]} of {asked[1]}: "
            f"use num_frames={length} and input_size={size}"
        )


def _constructor_parameters(builder: Any) -> set[str]:
    """Options of torchvision's class behind a builder: the builders themselves pass everything on."""
    own = [c for c in vars(sys.modules[builder.__module__]).values() if inspect.isclass(c)]
    signatures = [inspect.signature(c).parameters for c in own if c.__module__ == builder.__module__]
    return {name for parameters in signatures if "num_classes" in parameters for name in parameters}


def _last_layer(network: nn.Module) -> str:
    """Path of the last layer with weights in a torchvision classifier, which are all written in order."""
    layers = (nn.Linear, nn.Conv2d, nn.Conv3d)
    return [path for path, module in network.named_modules() if isinstance(module, layers)][-1]


def _make_stem_gray_(network: nn.Module) -> None:
    """Let the first convolution take one channel; weights are summed over colour."""
    conv = next(m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)))
    conv.weight = nn.Parameter(conv.weight.detach().sum(dim=1, keepdim=True))
    conv.in_channels = 1


def _load_torchvision_(network: nn.Module, name: str, builder: Any, weights: str, *, classifier: str) -> None:
    """Load published weights, or a file's; a classifier of another number of classes stays fresh."""
    try:
        if Path(weights).is_file():
            state = _read_weights(Path(weights))
        else:
            known = torchvision_models.get_model_weights(builder)
            state = known[weights].get_state_dict(progress=False, check_hash=True)
    except KeyError as error:
        raise ConfigError(
            f"{name!r} has no weights {weights!r}: no such file, and the published ones are "
            f"{', '.join(w.name for w in torchvision_models.get_model_weights(builder))}"
        ) from error
    except _UNREADABLE as error:
        raise _no_weights(name, error, "{'weights': PATH}") from error
    _load_fitting_(network, state, name, weights, classifier=classifier)


def _load_fitting_(
    network: nn.Module, state: Mapping[str, Tensor], name: str, weights: str, *, classifier: str
) -> None:
    """Load weights that must fit, all but the classifier's, which stays fresh if it has other classes."""
    own = network.state_dict()
    fitted = {key: _fit_colour(value, own[key]) for key, value in state.items() if key in own}
    fitted = {key: value for key, value in fitted.items() if value.shape == own[key].shape}
    missing = [key for key in own.keys() - fitted.keys() if not key.startswith(classifier + ".")]
    if missing:
        raise KinemixError(
            f"the weights {weights!r} do not fit {name!r}: {len(missing)} tensors are missing or of another "
            f"shape, such as {min(missing)!r}: name the file of this network"
        )
    network.load_state_dict(fitted, strict=False)


def _fit_colour(value: Tensor, wanted: Tensor) -> Tensor:
    if value.ndim in (4, 5) and value.shape[1] == 3 and wanted.shape[1] == 1:
        return value.sum(dim=1, keepdim=True)
    return value


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


# -------------------------------------------------------------------------------------------------- our own


def _create_own(
    name: str, num_classes: int, pretrained: bool, color: Color, dropout: float, options: dict[str, Any]
) -> tuple[nn.Module, InputSpec]:
    known = find_networks()[name]
    weights = options.pop("weights", None)
    try:
        network = known.make(
            num_classes=num_classes, in_channels=1 if color == "gray" else 3, dropout=dropout, **options
        )
    except TypeError as error:
        raise ConfigError(f"backbone {name!r} does not take these options: {error}") from error
    path = _last_layer(network)
    init_classifier_(network.get_submodule(path))
    if pretrained:
        source = weights or known.published
        if known.translate is None or source is None:
            raise KinemixError(
                f"the published weights of {name!r} cannot be fetched: name their file with backbone_options "
                "{'weights': PATH}, or use pretrained=False"
            )
        try:
            state = known.translate(_read_weights(Path(source)) if weights else _fetch(source))
        except _UNREADABLE as error:
            raise _no_weights(name, error, "{'weights': PATH}") from error
        _load_fitting_(network, state, name, source, classifier=path)
    return network, _recolor(known.input_spec, color)


def _fetch(published: str) -> dict[str, Tensor]:
    """Published weights by torchvision's name for them."""
    weights = torchvision_models.get_weight(published)
    return dict(weights.get_state_dict(progress=False, check_hash=True))
