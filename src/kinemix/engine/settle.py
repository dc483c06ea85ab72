"""Before a run: values that can be checked without opening anything, paths made absolute, the model built."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinemix.config import DataConfig, InputSpec, TrainConfig
from kinemix.engine.launch import count_processes, settle_machine
from kinemix.engine.run_directory import CONFIG_NAME
from kinemix.engine.tracking import shelf
from kinemix.engine.training_state import list_resumable
from kinemix.errors import ConfigError
from kinemix.evaluate.protocol import check_protocol
from kinemix.models.factory import create_model, parse_name
from kinemix.models.video import VideoModel

_LEAST = {
    "optim.epochs": 1,
    "optim.batch_size": 1,
    "optim.accumulate": 1,
    "optim.lr": 0,
    "optim.lr_batch": 1,
    "optim.warmup_iterations": 0,
    "optim.warmup_start": 0,
    "optim.frozen_stages": 0,
    "optim.momentum": 0,
    "optim.weight_decay": 0,
    "optim.warmup_epochs": 0,
    "optim.multigrid_cycles": 1,
    "patience": 1,
    "validate_every": 1,
    "save_steps": 1,
    "save_minutes": 0,
    "keep_last": 1,
    "data.workers": 0,
    "data.val_share": 0,
    "data.max_unreadable": 0,
    "data.max_missing": 0,
    "data.max_seconds": 1,
    "machine.devices": 1,
    "machine.nodes": 1,
    "machine.threads": 1,
    "data.short_side": 1,
    "seed": 0,
    **{
        f"augment.{name}": 0
        for name in ("brightness", "contrast", "saturation", "hue", "drift", "erase", "noise")
    },
    **{f"augment.{name}": 0 for name in ("translate", "rotate", "zoom", "trim")},
    **{f"augment.{name}": 0 for name in ("mixup", "cutmix", "mix_share")},
}
"""Options and their smallest values."""

_MOST = {
    "optim.momentum": 1,
    "optim.warmup_start": 1,
    "data.val_share": 1,
    "data.max_unreadable": 1,
    "data.max_missing": 1,
    "seed": 2**63 - 1,
    "augment.mix_share": 1,
    "augment.hue": 0.5,
    "augment.erase": 1,
    "augment.translate": 1,
    "augment.zoom": 0.9,
    "augment.trim": 0.45,
}
"""Options and their largest values."""

_SHARES = ("optim.label_smoothing", "optim.dropout", "optim.ema")
"""Options from 0 up to, but not including, 1."""


def settle_config(config: TrainConfig) -> TrainConfig:
    """The same config with absolute paths and both sides of the frames, so that it can be read from anywhere, and
    with ``resume`` and the number of processes decided.

    Raises:
        ConfigError: no such model, a value out of range, ``protocol.input``, which is the model's to say, or a
            tracker that is not installed.
    """
    parse_name(config.model)
    started = _is_started(config)
    _check_values(config)
    _check_together(config)
    _check_rates(config)
    if config.protocol.input != InputSpec():
        raise ConfigError("protocol.input comes from the model: set size and color instead")
    check_protocol(config.protocol)
    for name in config.track:
        shelf.get(name).check_installed()
    return replace(
        config,
        resume=bool(config.resume) and started,
        data=make_paths_absolute(config.data),
        init_from=make_absolute(config.init_from),
        machine=settle_machine(config.machine),
        size=(config.size, config.size) if isinstance(config.size, int) else config.size,
    )


def _is_started(config: TrainConfig) -> bool:
    """Whether there is a run in ``out``.

    Raises:
        ConfigError: ``resume`` asks for one, and it is not there or not whole.
    """
    if config.resume == "auto" and not config.out:
        raise ConfigError("resume is auto: name the directory of the run with --out")
    started = config.out is not None and (Path(config.out) / CONFIG_NAME).is_file()
    if config.resume and not started and config.out is not None and list_resumable(Path(config.out)):
        raise ConfigError(
            f"{config.out}: has checkpoints and no {CONFIG_NAME}, which says what the run is: restore it from a copy "
            f"(last/model.json holds the same options as metadata.config)"
        )
    if config.resume is True and not started:
        raise ConfigError(
            f"{config.out or 'no --out'}: no run to resume there (no {CONFIG_NAME}): name its directory with --out"
        )
    return started


def _check_values(config: TrainConfig) -> None:
    """Raise a :class:`ConfigError` for a value that is out of range by itself."""
    for name, least in _LEAST.items():
        value = _look_up(config, name)
        if value is not None and not value >= least:
            raise ConfigError(f"{name} is {value}: it must be {least} or more")
    for name, most in _MOST.items():
        if not _look_up(config, name) <= most:
            raise ConfigError(f"{name} is {_look_up(config, name)}: it must be {most} or less")
    scales = config.augment.scales
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ConfigError(f"augment.scales is {list(scales)}: give one or more numbers above 0 and up to 1")
    sides = config.size if isinstance(config.size, tuple) else (config.size,)
    if any(side is not None and side < 2 for side in sides):
        raise ConfigError(f"size is {config.size}: height and width must be 2 pixels or more")
    for name in _SHARES:
        value = _look_up(config, name)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{name} is {value}: it must be in [0, 1)")
    if config.optim.clip_grad_norm is not None and not config.optim.clip_grad_norm > 0:
        raise ConfigError(
            f"optim.clip_grad_norm is {config.optim.clip_grad_norm}: it must be above 0, or null"
        )


def _check_rates(config: TrainConfig) -> None:
    """Raise a :class:`ConfigError` for what says nothing sensible about the learning rate."""
    if config.optim.warmup_epochs and config.optim.warmup_iterations:
        raise ConfigError(
            "optim.warmup_epochs and optim.warmup_iterations both say how long: give one of them"
        )
    if config.optim.gamma <= 0:
        raise ConfigError(
            f"optim.gamma is {config.optim.gamma}: each milestone multiplies the rate by it; give more than 0"
        )
    if list(config.optim.milestones) != sorted(config.optim.milestones):
        raise ConfigError(f"optim.milestones is {list(config.optim.milestones)}: give them in their order")
    if negative := [pattern for pattern, scale in config.optim.lr_scales.items() if scale < 0]:
        raise ConfigError(f"optim.lr_scales: {negative[0]!r} has a factor below 0")


def tell_unused(config: TrainConfig) -> list[str]:
    """Options that are given and have no effect beside the others. They are told and not refused: whoever switches
    one part of a config file off, or runs it on one device, may leave the rest as it is."""
    told = []
    if config.machine.sync_batch_norm and count_processes(config.machine) == 1:
        told.append("machine.sync_batch_norm has no effect: there is one process only")
    if config.augment.mix_share != 1 and not (config.augment.mixup or config.augment.cutmix):
        told.append("augment.mix_share has no effect: neither augment.mixup nor augment.cutmix is given")
    return told


def _check_together(config: TrainConfig) -> None:
    """Raise a :class:`ConfigError` for options of the machine that do not go together."""
    machine = config.machine
    if machine.compile and machine.recompute:
        raise ConfigError("machine.compile and machine.recompute do not go together: give one of them")
    if machine.strategy != "fsdp":
        return
    reasons = {
        "precision=16-mixed": (
            machine.precision == "16-mixed",
            "its scaler sees one part of the gradient: use bf16-mixed",
        ),
        "compile": (machine.compile, "this was never tried: leave one of them out"),
        "channels_last": (
            machine.channels_last,
            "parts of a tensor have no memory format: leave one of them out",
        ),
    }
    for option, (given, why) in reasons.items():
        if given:
            raise ConfigError(f"machine.{option} does not go with machine.strategy=fsdp: {why}")


def build_model(config: TrainConfig, *, num_classes: int | Mapping[str, int], pretrained: bool) -> VideoModel:
    """The model that a config asks for.

    Raises:
        ConfigError: an unknown name or option.
        KinemixError: the published weights cannot be had.
    """
    options: dict[str, Any] = dict(config.model_options)
    if config.color is not None:
        options["color"] = config.color
    if not isinstance(num_classes, int):
        leading = list(num_classes)[-1]
        options["task_bias"] = leading if config.task_bias == "auto" else config.task_bias
    elif config.task_bias not in ("auto", None):
        raise ConfigError(f"task_bias is {config.task_bias!r}: there is one task only: set data.task")
    return create_model(
        config.model,
        num_classes=num_classes,
        num_frames=config.protocol.num_frames,
        pretrained=pretrained,
        input_size=config.size,
        dropout=config.optim.dropout,
        backbone_options=config.backbone_options,
        **options,
    )


def _look_up(config: TrainConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def make_paths_absolute(data: DataConfig) -> DataConfig:
    """The same data, wherever they are read from."""
    return replace(
        data,
        source=make_absolute(data.source) or "",
        val_source=make_absolute(data.val_source),
        root=make_absolute(data.root),
        class_file=make_absolute(data.class_file),
        cache=make_absolute(data.cache),
    )


def make_absolute(path: str | None) -> str | None:
    """An absolute path; ``kind:path``, which names the kind of dataset too, keeps its kind."""
    if not path:
        return path
    kind, colon, rest = path.partition(":")
    if colon and not Path(path).expanduser().exists():
        return f"{kind}:{Path(rest).expanduser().absolute()}"
    return str(Path(path).expanduser().absolute())
