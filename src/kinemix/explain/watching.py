"""What goes into the temporal modules of a network while clips pass."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from kinemix.explain.last_map import DoesNotApplyError
from kinemix.models.video import VideoModel
from kinemix.temporal.base import TemporalModule
from kinemix.types import Clip

M = TypeVar("M", bound=TemporalModule)
R = TypeVar("R")


def list_modules(model: VideoModel, *kinds: type[M], what: str) -> dict[str, M]:
    """The network's temporal modules of some kinds, by their host's path in the backbone, in order.

    Args:
        model: the network.
        kinds: classes.
        what: is read from them, for the message.

    Raises:
        DoesNotApplyError: it has none.
    """
    found = {
        module.site.path: module for module in model.temporal_modules().values() if isinstance(module, kinds)
    }
    if not found:
        others = sorted({module.name for module in model.temporal_modules().values()})
        has = f"its temporal modules are {', '.join(others)}" if others else "it has no temporal modules"
        raise DoesNotApplyError(f"the network has no {what}: {has}")
    return found


@torch.no_grad()
def ask_modules(
    model: VideoModel, clip: Clip, modules: dict[str, M], question: Callable[[M, Clip], R]
) -> dict[str, R]:
    """The answer of each module to a question about the map ``B T C H W`` that it gets.

    Args:
        model: in evaluation mode.
        clip: ``B T C H W``.
        modules: from :func:`list_modules`.
        question: asked of a module and its map.
    """
    answers: dict[str, R] = {}

    def listen(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def ask(module: nn.Module, args: tuple[Any, ...]) -> None:
            answers[path] = question(module, args[0])  # type: ignore[arg-type]

        return ask

    handles = [module.register_forward_pre_hook(listen(path)) for path, module in modules.items()]
    try:
        model(clip)
    finally:
        for handle in handles:
            handle.remove()
    return {path: answers[path] for path in modules}
