"""What a run is made of, built in the order in which mistakes are cheapest: nothing on disk is touched yet.

Every process builds its own, and only then do they set the network up together: a mistake in one of them, such as a
folder that is not there on its machine, must not leave the others waiting.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.optim.swa_utils import AveragedModel

from kinemix.config import TrainConfig
from kinemix.data.annotations import Annotations
from kinemix.data.loader import TestLoader, TrainLoader, build_test_loader, build_train_loader
from kinemix.data.mirror import mirror_space
from kinemix.data.mixing import ClipMixer
from kinemix.data.multigrid import Phase, plan_phases, spread_milestones
from kinemix.data.sources import Splits, open_splits
from kinemix.engine.freeze import freeze_
from kinemix.engine.objective import Objective, weigh_classes
from kinemix.engine.optim import build_optimizer, group_parameters
from kinemix.engine.processes import check_equal, do_all, take_from_first_
from kinemix.engine.run_directory import list_options
from kinemix.engine.schedule import has_steps
from kinemix.engine.settle import build_model
from kinemix.engine.training_state import list_resumable
from kinemix.engine.weight_average import average_weights
from kinemix.errors import ConfigError
from kinemix.evaluate.protocol import build_protocol, check_mirrors
from kinemix.evaluate.support import explain_bfloat16
from kinemix.label_space import LabelSpace
from kinemix.models.recompute import recompute_blocks_
from kinemix.models.sharding import shard_blocks_
from kinemix.models.sync_norm import synchronise_norms_
from kinemix.models.transfer import Transfer, start_from_
from kinemix.models.video import VideoModel


@dataclass(frozen=True, kw_only=True)
class OwnParts:
    """What a process builds for itself.

    Attributes:
        config: settled, with the protocol, size and colour of the model.
        splits: who is trained on and who is held out.
        model: with its first weights.
        transfer: what it has taken over from another network, if it starts from one.
        objective: logits and labels to a loss.
        resting: modules that are not trained, and so stay in evaluation mode.
        mixer: mixes the clips of a training batch, if that is asked for.
        phases: how the shape of training batches changes; empty where it does not.
        train_loader: augmented clips.
        val_loader: all views of the held-out videos; ``None`` if nothing is held out.
    """

    config: TrainConfig
    splits: Splits
    model: VideoModel
    transfer: Transfer | None
    objective: Objective
    resting: Sequence[nn.Module]
    mixer: ClipMixer | None
    phases: Sequence[Phase]
    train_loader: TrainLoader
    val_loader: TestLoader | None


@dataclass(frozen=True, kw_only=True)
class Parts(OwnParts):
    """The parts of a run.

    Attributes:
        network: the model as ``fabric`` has set it up.
        optimizer: likewise.
        average: the running mean of the weights, if the run keeps one.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None

    @property
    def answering(self) -> VideoModel:
        """The network that is validated and saved."""
        return self.model if self.average is None else cast(VideoModel, self.average.module)


def build_parts(fabric: Fabric, config: TrainConfig) -> Parts:
    """Open the data, build the model, and set both up for this process.

    Args:
        fabric: launched.
        config: settled.

    Raises:
        KinemixError: one of them cannot be used; or not all processes have the same.
    """
    check_equal(fabric, list_options(config))
    resumable = config.resume and config.out is not None and bool(list_resumable(Path(config.out)))
    own = do_all(fabric, lambda: _build_own(fabric, config, resumable=resumable))
    if fabric.world_size > 1:
        parts = {"training": own.splits.train, "held-out": own.splits.val}
        check_equal(fabric, {f"the list of {name} videos": _digest(part) for name, part in parts.items()})
    network, optimizer, average = _set_up(fabric, own.config, own.model)
    return Parts(**vars(own), network=network, optimizer=optimizer, average=average)


def _build_own(fabric: Fabric, config: TrainConfig, *, resumable: bool) -> OwnParts:
    splits = open_splits(config.data)
    if config.patience is not None and (config.validate_every is None or not len(splits.val)):
        raise ConfigError("patience: nothing is held out and validated: set it to null")
    objective = _build_objective(config, splits.train)
    torch.manual_seed(config.seed)
    model = build_model(
        config,
        num_classes=dict(splits.space.tasks) or len(splits.class_names),
        pretrained=config.pretrained and not resumable,
    )
    transfer = None
    if config.init_from is not None and not resumable:
        transfer = start_from_(model, config.init_from, class_names=splits.space.class_names)
    protocol = build_protocol(config.protocol, input_spec=model.input_spec)
    check_mirrors(protocol, find_mirrors(config, splits.space), splits.space.class_names)
    config = replace(config, protocol=protocol, size=protocol.input.size, color=protocol.input.color)
    phases = plan_config_phases(config, model)
    train_loader, val_loader = _build_loaders(fabric, config, splits, phases)
    optim = config.optim
    resting = freeze_(
        model, batch_norm=optim.batch_norm, frozen_stages=optim.frozen_stages, lr_scales=optim.lr_scales
    )
    _check_precision(fabric, config, model)
    if config.machine.sync_batch_norm:
        synchronise_norms_(model)
    if config.machine.recompute:
        recompute_blocks_(model)
    return OwnParts(
        config=config,
        splits=splits,
        model=model,
        transfer=transfer,
        objective=objective,
        resting=resting,
        mixer=_build_mixer(config, splits.train),
        phases=phases,
        train_loader=train_loader,
        val_loader=val_loader,
    )


def _build_objective(config: TrainConfig, annotations: Annotations) -> Objective:
    space, optim = annotations.space, config.optim
    return Objective(
        space=space,
        label_smoothing=optim.label_smoothing,
        task_weights=optim.task_weights,
        class_weights=weigh_classes(optim.class_weights, counts=annotations.count_classes(), space=space),
    )


def _check_precision(fabric: Fabric, config: TrainConfig, model: VideoModel) -> None:
    if fabric.device.type != "cpu" or config.machine.precision != "bf16-mixed":
        return
    if fault := explain_bfloat16(model):
        raise ConfigError(
            f"machine.precision is bf16-mixed: {config.model} cannot be trained so on the CPU, where {fault}: "
            "set machine.precision=32, or train on a GPU"
        )


def _digest(annotations: Annotations) -> str:
    """The same for the same samples with the same labels."""
    digest = hashlib.blake2b(digest_size=8)
    for index, sample in enumerate(annotations.samples):
        digest.update(f"{sample.name}\t{annotations.read_label(index)}\n".encode())
    return f"{len(annotations)} videos, {digest.hexdigest()}"


def _set_up(
    fabric: Fabric, config: TrainConfig, model: VideoModel
) -> tuple[nn.Module, torch.optim.Optimizer, AveragedModel | None]:
    machine, optim = config.machine, config.optim
    if machine.channels_last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in model.parameters():
            if parameter.ndim in formats:
                parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
    network: Any = torch.compile(model) if machine.compile else model
    average = None
    if isinstance(fabric.strategy, ModelParallelStrategy):
        # Parts of the weights are other tensors than the whole ones: the copy is made before, the optimizer after.
        take_from_first_(fabric, [*model.parameters(), *model.buffers()])
        if optim.ema is not None:
            average = average_weights(model, decay=optim.ema)
            shard_blocks_(cast(VideoModel, average.module), fabric.strategy.device_mesh["data_parallel"])
        network = fabric.setup_module(network)
        optimizer = do_all(fabric, lambda: _build_optimizer(config, model))
        return network, fabric.setup_optimizers(optimizer), average
    network, optimizer = fabric.setup(network, do_all(fabric, lambda: _build_optimizer(config, model)))
    if optim.ema is not None:
        average = average_weights(model, decay=optim.ema)
    return network, optimizer, average


def _build_optimizer(config: TrainConfig, model: VideoModel) -> torch.optim.Optimizer:
    optim = config.optim
    groups = group_parameters(
        model,
        weight_decay=optim.weight_decay,
        decay_norms=optim.decay_norms,
        policy=optim.policy,
        lr_scales=optim.lr_scales,
        classifier=f"backbone.{model.classifier}",
    )
    return build_optimizer(
        groups, name=optim.name, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov
    )


def _build_loaders(
    fabric: Fabric, config: TrainConfig, splits: Splits, phases: Sequence[Phase]
) -> tuple[TrainLoader, TestLoader | None]:
    data = config.data
    common: dict[str, Any] = {
        "protocol": config.protocol,
        "batch_size": config.optim.batch_size,
        "reader": data.reader,
        "short_side": data.short_side,
        "cache": data.cache,
        "max_seconds": data.max_seconds,
        "workers": data.workers,
        "rank": fabric.global_rank,
        "world_size": fabric.world_size,
        "pin_memory": fabric.device.type == "cuda",
    }
    train = build_train_loader(
        splits.train,
        augment=config.augment,
        seed=config.seed,
        balance_classes=data.balance_classes,
        phases=phases,
        accumulate=config.optim.accumulate,
        **common,
    )
    return train, build_test_loader(splits.val, **common) if len(splits.val) else None


def _build_mixer(config: TrainConfig, annotations: Annotations) -> ClipMixer | None:
    augment = config.augment
    if not (augment.mixup or augment.cutmix):
        return None
    return ClipMixer(
        mixup=augment.mixup,
        cutmix=augment.cutmix,
        share=augment.mix_share,
        space=annotations.space,
        seed=config.seed,
    )


def plan_config_phases(config: TrainConfig, model: VideoModel) -> tuple[Phase, ...]:
    """How the shape of training batches changes, as the options say; empty where it does not.

    Raises:
        ConfigError: the network is bound to clips of one shape.
    """
    optim = config.optim
    if optim.multigrid == "none":
        return ()
    long, short = optim.multigrid in ("long", "both"), optim.multigrid in ("short", "both")
    if bound := (long and model.fixed_length) or model.fixed_size:
        raise ConfigError(
            f"optim.multigrid is {optim.multigrid}, but {bound} is bound to the clip that it is built for: "
            "set it to none"
        )
    in_steps = optim.schedule == "step"
    if long and in_steps and not has_steps(optim):
        raise ConfigError(
            f"optim.multigrid is {optim.multigrid}: its long cycles end where the rate steps down, and none of "
            f"optim.milestones {list(optim.milestones)} lies within {optim.epochs} epochs: give others, or "
            "another optim.schedule"
        )
    return plan_phases(
        batch_size=optim.batch_size,
        num_frames=config.protocol.num_frames,
        size=model.input_spec.size,
        epochs=optim.epochs,
        milestones=optim.milestones if in_steps else spread_milestones(optim.epochs, optim.multigrid_cycles),
        long=long,
        short=short,
    )


def find_mirrors(config: TrainConfig, space: LabelSpace) -> list[int | None]:
    """For each of the K classes that of its mirror image, which ten crops need; ``None`` where there is none."""
    augment = config.augment
    flip = "auto" if augment.flip == "off" else augment.flip
    return mirror_space(space, flip=flip, flip_labels=augment.flip_labels).row
