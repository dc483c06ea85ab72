"""Activation checkpointing: a block keeps its input alone, and does its work again when the gradient needs it.

A training then needs the memory of one block's activations beside the blocks' inputs, for about a third more time.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from kinemix.errors import ConfigError
from kinemix.models.video import VideoModel


def recompute_blocks_(model: VideoModel) -> None:
    """Let every block of the network do its work again in the backward pass, with the same result.

    Args:
        model: changed in place; weights, their names and what it answers stay the same.

    Raises:
        ConfigError: the network has no blocks.
    """
    if not model.blocks:
        raise ConfigError(
            f"machine.recompute: {model.description.get('name')} has no blocks whose work could be done again"
        )
    for path in model.blocks:
        block = model.backbone.get_submodule(path)
        # As a partial of the class's own method, it is copied with the block.
        block.forward = partial(_forward, block)


def _forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = partial(_choose_contexts, block)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _choose_contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first run, and the second."""
    return nullcontext(), _keep_statistics(block)


@contextmanager
def _keep_statistics(block: nn.Module) -> Iterator[None]:
    """Within it, batch normalisation counts the batch into a copy of its running statistics, which is forgotten."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]
    buffers = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    try:
        for norm, kept in buffers:
            for name, buffer in kept.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, kept in buffers:
            for name, buffer in kept.items():
                setattr(norm, name, buffer)
