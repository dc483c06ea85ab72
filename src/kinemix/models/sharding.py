"""Fully sharded data parallelism (FSDP2): each process keeps a part of every tensor, and borrows the rest for a block.

Before a block runs, its weights are gathered, and forgotten again behind it; gradients are averaged and divided the
same way, and the optimizer's state lives where its weights do. Running statistics are small and stay whole. What is
saved is gathered whole, and what is loaded is divided, so no file knows of it.

Source: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel"; torch's ``fully_shard``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor

from kinemix.models.video import VideoModel


def shard_blocks_(model: VideoModel, mesh: DeviceMesh) -> VideoModel:
    """Divide a network's parameters among the processes, block by block; what is in no block is one more part.

    Args:
        model: changed in place, with the same weights in every process.
        mesh: of one dimension: the processes.

    Returns:
        The same model, moved to the mesh's device.
    """
    from torch.distributed.fsdp import fully_shard

    # Whole again only while a block runs, the root too: between steps there are parts alone, which the optimizer,
    # a running mean and a checkpoint work on.
    for path in model.blocks:
        fully_shard(model.backbone.get_submodule(path), mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return model


def is_sharded(module: nn.Module) -> bool:
    """Whether the parameters are parts."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def gather_whole(state: Any, *, keep: bool = True) -> Any:
    """A state dict with whole tensors on the CPU in the place of parts. All processes must gather together.

    Args:
        state: tensors in mappings and lists, of any depth; what is no part stays what it is.
        keep: whether this process wants the result; ``None`` stands for tensors otherwise.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(state, Mapping):
        return {name: gather_whole(value, keep=keep) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(gather_whole(value, keep=keep) for value in state)
    return state


def take_part(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that all have whole; the tensor itself where ``like`` is no part."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(
        whole.to(like.device), like.device_mesh, list(like.placements), src_data_rank=None
    )


def take_local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The memory of this process behind each tensor: of a part, or of all of it."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def load_whole_(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole tensors into a network, sharded or not.

    Raises:
        RuntimeError: as ``load_state_dict``: names or shapes are another network's.
    """
    ours = model.state_dict() if is_sharded(model) else {}
    model.load_state_dict(
        {
            name: take_part(whole, ours[name]) if name in ours and whole.shape == ours[name].shape else whole
            for name, whole in weights.items()
        }
    )


def read_norm(norm: Tensor) -> float:
    """The norm of a gradient, of which each process may have a part."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def load_optimizer_(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state of an optimizer from whole tensors, whether its parameters are sharded or not.

    Args:
        optimizer: over the parameters, in the same groups.
        state: of torch's own form: ``state`` by the parameters' numbers, ``param_groups``.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    divided = {
        number: {
            name: take_part(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in entries.items()
        }
        for number, entries in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": divided})
