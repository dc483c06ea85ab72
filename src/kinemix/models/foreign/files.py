"""A weights file of another project, read as data: tensors by name, and never a line of code from it.

Both of torch's pickle formats and safetensors are read. What a pickle may do besides holding tensors, numbers
and words is what makes it dangerous, so a file that needs more is refused.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kinemix.errors import CheckpointError

_CONTAINERS = ("state_dict", "model_state", "model_state_dict", "model")
"""Where projects keep the network's tensors, beside epoch, optimizer and the like."""

_WRAPPER = "module."
"""What ``nn.DataParallel`` puts before every name."""


@dataclass(frozen=True)
class ForeignFile:
    """What a file holds.

    Attributes:
        path: of the file.
        state: the network's tensors by name, in the file's order, each with memory of its own.
        notes: numbers and words that stand beside them (``epoch``, ``arch``).
    """

    path: Path
    state: Mapping[str, Tensor]
    notes: Mapping[str, str | int | float]


def read_foreign(path: str | Path) -> ForeignFile:
    """Read the tensors of a file: ``.pth``, ``.pt``, ``.pth.tar``, ``.pyth``, ``.safetensors`` or another name.

    Raises:
        CheckpointError: no such file, cut short, holding code, or holding no named tensors.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}: give the weights file that the other project wrote")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state, notes = _open_container(path, content)
    _check_values(path, state)
    if all(name.startswith(_WRAPPER) for name in state):
        state = {name.removeprefix(_WRAPPER): tensor for name, tensor in state.items()}
    return ForeignFile(
        path,
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()},
        notes,
    )


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: no whole safetensors file ({_one_line(error)}): copy or download it again"
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is told below, in one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{path}: {_explain(path, str(error))}") from error


def _explain(path: Path, error: str) -> str:
    """Why torch could not read a file, and the cure."""
    if code := re.search(r"GLOBAL (\S+)", error):
        return (
            f"holds more than weights (a pickled {code[1]}), and unpickling that would run code of the file, so it "
            "is refused: where you trust it, save its tensors alone with torch.save("
            f"torch.load({path.name!r}, weights_only=False)['state_dict'], 'weights.pth')"
        )
    if "TorchScript" in error:
        return (
            "is a TorchScript program, which is code: save its weights alone with torch.save("
            f"torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        )
    if "legacy .tar" in error:
        return "is in torch's oldest format, which can run code: load and save it again with torch before version 2.6"
    return "is no whole weights file of torch: it is cut short, damaged or of another kind; download it again"


def _open_container(path: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, str | int | float]]:
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, not tensors by name: save a network's state_dict()"
        )
    inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
    state = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not any(tensor.ndim > 1 for tensor in state.values()):
        shown = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(
            f"{path}: holds no weights of a network by name, but {shown}: save a network's state_dict()"
        )
    beside = {} if inner is content else content
    return state, {str(k): v for k, v in beside.items() if isinstance(v, (str, int, float))}


def _check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite: take another checkpoint")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
