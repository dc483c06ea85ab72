"""Training: one loop that can be read from top to bottom.

:func:`train` sets the stage and walks through the epochs; :func:`train_epoch` is the loop itself, and gives
control back after every step of the optimizer, when weights, optimizer and position agree and may be saved.
What is drawn depends on the seed, the epoch and the sample alone, so a run that was killed and resumed ends
with the weights of one that was not, bit for bit.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from kinemix.config import MachineConfig, TrainConfig, to_dict
from kinemix.data.loader import Batch, build_test_loader, build_train_loader
from kinemix.data.mirror import mirror_labels
from kinemix.data.sources import Splits, open_splits
from kinemix.engine.interrupt import Interrupted, StopWish, catch_stop
from kinemix.engine.launch import any_process, do_first, gather, launch_fabric
from kinemix.engine.logbook import Logbook
from kinemix.engine.optim import build_optimizer, rate_at, set_rate_
from kinemix.engine.progress import ProgressBar
from kinemix.engine.run_directory import open_run_directory, resolve_config
from kinemix.engine.training_state import (
    Position,
    collect_rng_state,
    read_checkpoint_,
    restore_rng_state_,
    write_checkpoint,
)
from kinemix.engine.unreadable import UnreadableList
from kinemix.errors import ConfigError, KinemixError
from kinemix.evaluate.evaluator import evaluate
from kinemix.evaluate.metrics import Metrics
from kinemix.evaluate.protocol import build_protocol, protocol_to_dict
from kinemix.evaluate.scores import Scores, merge_scores
from kinemix.models.checkpoint import JSON_NAME
from kinemix.models.factory import create_model
from kinemix.models.video import VideoModel


def train(config: TrainConfig) -> Path:
    """Train a network, or go on training it.

    Args:
        config: everything.

    Returns:
        The run directory, with checkpoints ``best`` and ``last``.

    Raises:
        KinemixError: data, options or the run directory cannot be used; too many videos are unreadable; the
            loss is no longer a number; the disk is full.
        Interrupted: Ctrl-C or SIGTERM, after the run was saved.
    """
    config = resolve_config(config)
    machine, optim = config.machine, config.optim
    fabric = launch_fabric(
        accelerator=machine.accelerator,
        devices=machine.devices,
        nodes=machine.nodes,
        precision=machine.precision,
        threads=machine.threads,
    )
    splits = open_splits(config.data)
    torch.manual_seed(config.seed)
    model = build_model(config, num_classes=len(splits.class_names))
    protocol = build_protocol(config.protocol, input_spec=model.input_spec)
    config = replace(config, protocol=protocol, size=protocol.input.size, color=protocol.input.color)
    ...
