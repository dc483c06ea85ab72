"""Networks by name: ``<module>_<backbone>``, made in three steps: backbone, weights, surgery.

``mixtconv_resnet50`` is the temporal module ``mixtconv`` in timm's ``resnet50``. Any module of the shelf (or
its alias, or ``package.module:Class``) goes before any backbone name. A clip network (``x3d_s``) sees time by
itself, so its own name is a model's name as well.
"""

import copy
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from fnmatch import fnmatch
from typing import Any

from torch import nn

from kinemix.config import Color
from kinemix.errors import ConfigError, did_you_mean
from kinemix.models.backbones import (
    Backbone,
    create_backbone,
    find_classifier,
    is_backbone,
    is_clip_network,
    list_backbones,
    read_input_spec,
    resize_spec,
)
from kinemix.models.blocks import find_blocks, find_stages
from kinemix.models.insertion import find_sites_in_trace, insert_
from kinemix.models.module_options import split_options
from kinemix.models.multi_task import MultiTaskHead
from kinemix.models.trace import trace_network
from kinemix.models.video import Fold, Layout, VideoModel, Volume
from kinemix.temporal import shelf
from kinemix.temporal.base import Insertion, Site, TemporalModule

Placement = str | Insertion | Mapping[str, Any]
"""A name in the module's ``placements``, an insertion, or an insertion's fields as a dictionary."""

PLAIN = "tsn"
"""The module that goes nowhere: a backbone as it is."""

NICKNAMES = {
    "mtnet_s": "mtconv_x3d_s",
    "mtnet_m": "mtconv_x3d_m",
    "mtnet_l": "mtconv_x3d_l",
    "mtconv_resnet50": "mtconv_r3d_resnet50",  # MTNet, Table II: the same 3D ResNet for every block
}
"""Papers' names for whole networks, which the rule ``<module>_<backbone>`` would read otherwise or not at all."""


def create_model(
    name: str,
    *,
    num_classes: int | Mapping[str, int],
    num_frames: int = 8,
    pretrained: bool = False,
    input_size: int | tuple[int, int] | None = None,
    color: Color | None = None,
    dropout: float = 0.0,
    placement: Placement | None = None,
    stages: Sequence[int] | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    task_bias: str | None = None,
    **options: Any,
) -> VideoModel:
    """Make a network that takes clips ``B T C H W`` and gives logits ``B x num_classes``.

    Args:
        name: ``<module>_<backbone>``, such as ``tsm_resnet50``, or a clip network's own name;
            :func:`list_models` lists them.
        num_classes: logits a clip; or, for several tasks, how many of each, by name: their logits then stand side
            by side in that order (:class:`kinemix.models.multi_task.MultiTaskHead`).
        num_frames: frames a clip. Most modules take clips of other lengths as well.
        pretrained: load the backbone's published weights before the surgery.
        input_size: height and width in pixels; by default the backbone's own.
        color: what the frames hold: ``rgb``, ``bgr`` or one channel of ``gray``; by default what the backbone's
            published weights were made for (``rgb``, but for BN-Inception).
        dropout: probability, before the classifier.
        placement: where the module goes: a name from its paper (``head``, ``inner``), or any insertion.
        stages: use these stages only, counted from 1.
        backbone_options: passed to the backbone's constructor.
        task_bias: of several tasks, the one whose scores bias the others'.
        **options: the temporal module's own (``kernel_sizes=(1, 3, 5, 7)``).

    Raises:
        ConfigError: a name or option is unknown, or its value cannot be; the message suggests the nearest.
        KinemixError: the published weights cannot be had.
    """
    module_class, backbone_name = parse_name(name)
    options, plan_options = split_options(module_class, options)
    tasks = _check_tasks(num_classes) if isinstance(num_classes, Mapping) else None
    count = _read_count("num_classes", num_classes) if tasks is None else sum(tasks.values())
    num_frames = _read_count("num_frames", num_frames)
    if task_bias is not None and tasks is None:
        raise ConfigError(f"task_bias is {task_bias!r}: there is one task only: leave it out")
    backbone = create_backbone(
        backbone_name,
        num_classes=count,
        num_frames=num_frames,
        pretrained=pretrained,
        input_size=input_size,
        color=color,
        dropout=dropout,
        backbone_options=backbone_options,
    )
    description = {
        "name": name,
        "num_classes": count if tasks is None else tasks,
        **({} if tasks is None else {"task_bias": task_bias}),
        "num_frames": num_frames,
        "input_size": list(backbone.input_spec.size),
        "color": backbone.input_spec.color,
        "dropout": dropout,
        "placement": _describe_placement(placement),
        "stages": None if stages is None else list(stages),
        "backbone_options": dict(backbone_options or {}),
        **options,
        **plan_options,
    }
    return _insert(
        backbone,
        module_class,
        num_frames=num_frames,
        insertion=_read_placement(module_class, backbone_name, placement, stages, plan_options),
        options=options,
        description=description,
        tasks=tasks,
        task_bias=task_bias,
    )


def temporalize(
    backbone: nn.Module,
    module: str | type[TemporalModule],
    *,
    num_frames: int = 8,
    input_size: int | tuple[int, int] | None = None,
    placement: Placement | None = None,
    stages: Sequence[int] | None = None,
    color: Color = "rgb",
    **options: Any,
) -> VideoModel:
    """Let an image network that you already have see time. It is left as it is: a copy is cut.

    Args:
        backbone: any CNN, timm's, torchvision's or your own: ``N C H W`` to ``N x classes``; or a network of
            3D convolutions, ``N C T H W`` to ``N x classes``.
        module: name or alias on the shelf, ``package.module:Class``, or a class.
        num_frames, placement, stages, **options: as in :func:`create_model`.
        color: what the frames hold.
        input_size: height and width in pixels; by default what the network says (timm), else 224.

    Raises:
        ConfigError: as in :func:`create_model`; or the network has no blocks, or does not give one logit
            vector a frame.
    """
    if not isinstance(backbone, nn.Module) or isinstance(backbone, VideoModel):
        raise ConfigError(
            f"backbone is of type {type(backbone).__name__}: give a torch.nn.Module that sees images or clips, or "
            "a name to create_model"
        )
    module_class = module if isinstance(module, type) else find_module(module)
    num_frames = _read_count("num_frames", num_frames)
    options, plan_options = split_options(module_class, options)
    spec = resize_spec(read_input_spec(backbone, color), input_size)
    takes_clips = any(isinstance(layer, nn.Conv3d) for layer in backbone.modules())
    return _insert(
        Backbone(copy.deepcopy(backbone), spec, takes_clips=takes_clips),
        module_class,
        num_frames=num_frames,
        insertion=_read_placement(module_class, type(backbone).__name__, placement, stages, plan_options),
        options=options,
        description={"backbone": f"{type(backbone).__module__}.{type(backbone).__qualname__}"},
    )


def list_models(pattern: str = "*") -> list[str]:
    """Names of all networks that match a shell pattern: ``"tsm_resnet*"``, ``"*_convnext_tiny"``."""
    backbones = list_backbones()
    names = [
        *NICKNAMES,
        *filter(is_clip_network, backbones),
        *(f"{prefix}_{backbone}" for prefix in sorted(_prefixes()) for backbone in backbones),
    ]
    return [name for name in dict.fromkeys(names) if fnmatch(name, pattern)]


def parse_name(name: str) -> tuple[type[TemporalModule], str]:
    """The temporal module and the backbone that a network's name stands for.

    Raises:
        ConfigError: no such network; the message suggests the nearest.
    """
    name = NICKNAMES.get(name, name)
    if is_clip_network(name):
        return find_module(PLAIN), name
    for prefix, backbone in _splits(name):
        if is_backbone(backbone) and (prefix in _prefixes() or ":" in prefix):
            return find_module(prefix), backbone
    for prefix, backbone in _splits(name):
        if prefix in _prefixes():
            nearest = did_you_mean(backbone, list_backbones())
            raise ConfigError(f"unknown model {name!r}: there is no backbone {backbone!r}; {nearest}")
        if is_backbone(backbone):
            nearest = did_you_mean(prefix, _prefixes())
            raise ConfigError(f"unknown model {name!r}: there is no temporal module {prefix!r}; {nearest}")
    if is_backbone(name):
        raise ConfigError(
            f"unknown model {name!r}: that is a backbone; put a module before it, as 'tsm_{name}'"
        )
    close = get_close_matches(name, list_models(), n=3)
    nearest = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ConfigError(
        f"unknown model {name!r}: names are <module>_<backbone>, where the modules are "
        f"{', '.join(sorted(_prefixes()))}{nearest}"
    )


def find_module(name: str) -> type[TemporalModule]:
    """The temporal module of this name or alias, or at ``package.module:Class``."""
    prefixes = _prefixes()
    if name in prefixes:
        return prefixes[name]
    if ":" in name:
        return shelf.get(name)
    raise ConfigError(f"unknown temporal module {name!r}: {did_you_mean(name, prefixes)}")


def _prefixes() -> dict[str, type[TemporalModule]]:
    classes = [shelf.get(name) for name in shelf.names()]
    return {prefix: c for c in classes for prefix in (c.name, *c.aliases)}


def _splits(name: str) -> Iterable[tuple[str, str]]:
    """Every way of cutting a name at an underscore, the longest prefix first."""
    cuts = [i for i, letter in enumerate(name) if letter == "_"]
    return [(name[:i], name[i + 1 :]) for i in reversed(cuts)]


def _read_placement(
    module_class: type[TemporalModule],
    backbone: str,
    placement: Placement | None,
    stages: Sequence[int] | None,
    plan_options: Mapping[str, Any],
) -> Insertion | None:
    """The insertion that is asked for; ``None`` for a module that goes nowhere (TSN)."""
    named = module_class.placements
    if placement is not None and plan_options:
        raise ConfigError(
            f"{', '.join(plan_options)} and placement both say where {module_class.name} goes: give one of them"
        )
    if isinstance(placement, Insertion):
        insertion = placement
    elif isinstance(placement, str):
        if placement not in named:
            nearest = did_you_mean(placement, named) if named else "it has none"
            raise ConfigError(f"{module_class.name} has no placement {placement!r}: {nearest}")
        insertion = named[placement]
    elif placement is not None:
        insertion = _read_insertion(placement)
    elif (planned := module_class.choose_insertion(backbone, **plan_options)) is not None:
        insertion = planned
    elif module_class.sees_time or stages is not None:
        raise ConfigError(f"{module_class.name} names no placement of its own: give placement=")
    else:
        return None
    return insertion if stages is None else replace(insertion, stages=tuple(stages))


def _read_insertion(fields: Mapping[str, Any]) -> Insertion:
    """An insertion from a dictionary, such as a YAML file or a checkpoint holds."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return Insertion(**values)
    except TypeError as error:
        known = ", ".join(Insertion.__dataclass_fields__)
        raise ConfigError(f"placement {dict(fields)} is no insertion: its fields are {known}") from error


def _describe_placement(placement: Placement | None) -> Any:
    return asdict(placement) if isinstance(placement, Insertion) else placement


def _insert(
    backbone: Backbone,
    module_class: type[TemporalModule],
    *,
    num_frames: int,
    insertion: Insertion | None,
    options: Mapping[str, Any],
    description: Mapping[str, Any],
    tasks: Mapping[str, int] | None = None,
    task_bias: str | None = None,
) -> VideoModel:
    network, spec = backbone.network, backbone.input_spec
    trace = trace_network(
        network,
        channels=spec.channels,
        input_size=spec.size,
        num_frames=num_frames if backbone.takes_clips else None,
    )
    if [len(shape) for shape in trace.output_shapes] != [2]:
        raise ConfigError(
            f"{type(network).__name__} gives {trace.output_shapes or 'no tensor'} for one "
            f"{'clip' if backbone.takes_clips else 'frame'}, not one vector of logits (1 x classes)"
        )
    sites: list[Site] = []
    if insertion is not None:
        sites = find_sites_in_trace(network, trace, insertion, num_frames=num_frames)
    layout: Layout = Volume() if backbone.takes_clips else Fold(num_frames)
    classifier, blocks = find_classifier(network, trace), find_blocks(trace)
    if tasks is not None:
        _check_one_classifier(network)
        head = MultiTaskHead(network.get_submodule(classifier), tasks=tasks, task_bias=task_bias)
        network.set_submodule(classifier, head)
    insert_(network, sites, lambda site: module_class(site, **options), layout)
    return VideoModel(
        network,
        layout=layout,
        input_spec=spec,
        num_frames=num_frames,
        num_classes=trace.output_shapes[0][1],
        sites=sites,
        classifier=classifier,
        tasks=tasks,
        blocks=[block.path for block in blocks],
        stages=find_stages(trace, blocks),
        any_length=backbone.any_length,
        any_size=backbone.any_size,
        description=description,
    )


def _read_count(name: str, value: Any) -> int:
    """A whole number of 1 or more, NumPy's and torch's too.

    Raises:
        ConfigError: it is none; the message begins with ``name``.
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        raise ConfigError(f"{name} is {value!r}: it must be a whole number, 1 or more")
    if count < 1:
        raise ConfigError(f"{name} is {value}: it must be 1 or more")
    return count


def _check_tasks(tasks: Mapping[str, int]) -> dict[str, int]:
    """Number of classes by task, as it was given."""
    if not tasks:
        raise ConfigError("num_classes: no task: give a number, or name one or more")
    return {task: _read_count(f"num_classes of task {task!r}", count) for task, count in tasks.items()}


def _check_one_classifier(network: nn.Module) -> None:
    """Raise unless one layer alone gives the logits (LeViT averages two)."""
    classifier: Any = getattr(network, "get_classifier", lambda: None)()
    if isinstance(classifier, (tuple, list)) and len(classifier) > 1:
        raise ConfigError(
            f"{type(network).__name__} has {len(classifier)} classifiers: several tasks need a backbone with one"
        )
