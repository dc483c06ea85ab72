"""A network on disk: weights in a safetensors file, everything else in one JSON file beside it.

``model.json`` is the checkpoint; it names its weights file, whose name holds its hash. Saving writes the new
weights under their own name first and then replaces the JSON in one step, so that a kill or a full disk at
any moment leaves a whole and consistent pair: the new one or the one before.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinemix.atomic import flush_to_disk
from kinemix.errors import CheckpointError, ConfigError
from kinemix.models.factory import create_model
from kinemix.models.sharding import load_whole_
from kinemix.models.video import VideoModel

JSON_NAME = "model.json"
VERSION = version("kinemix")
FORMAT = 1
"""Version of the layout of the JSON file; raised when an older kinemix could not read it."""


def save_checkpoint(
    folder: str | Path,
    *,
    model: VideoModel,
    metadata: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a network and what belongs to it; the folder's previous checkpoint stays whole until the end.

    Args:
        folder: made if missing.
        model: its weights and its description are kept.
        metadata: anything JSON can hold: protocol, label names, the run's configuration.
        weights: the model's own, by default; a sharded one holds parts of them
            (:func:`kinemix.models.sharding.gather_whole`).

    Returns:
        Path of the JSON file.

    Raises:
        CheckpointError: it cannot be written (no room, no permission); nothing was changed.
        TypeError: the metadata holds something JSON cannot.
    """
    folder = Path(folder)
    content: dict[str, Any] = {
        "format": FORMAT,
        "kinemix": VERSION,
        "model": model.description,
        "metadata": dict(metadata),
    }
    json.dumps(content)  # a TypeError belongs before the first byte on disk
    temporary: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary += [saved := _name_temporary(folder), description := _name_temporary(folder)]
        save_file(_copy_weights(model.state_dict() if weights is None else weights), saved)
        digest, size = _hash_file(saved), saved.stat().st_size
        content["weights"] = {"file": f"model-{digest[:16]}.safetensors", "sha256": digest, "bytes": size}
        description.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        saved.chmod(description.stat().st_mode)  # safetensors lets nobody else read its files
        flush_to_disk(saved)
        flush_to_disk(description)
        saved.replace(folder / content["weights"]["file"])
        flush_to_disk(folder)
        description.replace(folder / JSON_NAME)
        flush_to_disk(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written ({error}); the one before is untouched: "
            "free some room or choose another folder"
        ) from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    _remove_other_weights(folder, keep=content["weights"]["file"])
    return folder / JSON_NAME


def load_checkpoint(
    path: str | Path, *, model: VideoModel | None = None
) -> tuple[VideoModel, dict[str, Any]]:
    """Rebuild a network from its checkpoint, in evaluation mode.

    Args:
        path: the folder, or a file of the pair.
        model: load into this network instead of building one; needed for networks that
            :func:`kinemix.temporalize` made from a backbone which only your code can build.

    Returns:
        The network and the metadata it was saved with.

    Raises:
        CheckpointError: something is missing, cut short, or belongs to another network.
    """
    given = Path(path)
    folder = given if given.is_dir() else given.parent
    content = read_description(folder)
    if not (folder / content["weights"]["file"]).is_file():
        content = read_description(folder)  # a training run may have saved in between
    weights = _check_weights(folder, content["weights"])
    if model is None:
        model = _build(folder, content["model"])
    _load_weights_(model, weights)
    return model.eval(), content["metadata"]


def find_checkpoint(path: str | Path, name: str | None = None) -> Path:
    """The folder of a checkpoint, whichever way it is named.

    Args:
        path: a run directory, or a checkpoint folder itself.
        name: ``best`` or ``last`` of a run directory; by default the best, or the last where there is no
            best.

    Raises:
        CheckpointError: nothing there.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such run directory or file; `kinemix train` prints the one it writes"
        )
    if path.name == JSON_NAME:
        path = path.parent
    for folder in (path, *(path / choice for choice in ([name] if name else ["best", "last"]))):
        if (folder / JSON_NAME).is_file():
            read_description(folder)  # raises if it is damaged
            return folder
    wanted = f"checkpoint {name!r}" if name else "checkpoint"
    raise CheckpointError(f"{path}: no {wanted} there; give a run directory that `kinemix train` has written")


def read_description(folder: str | Path) -> dict[str, Any]:
    """The JSON half of a checkpoint: ``format``, ``kinemix``, ``model``, ``weights`` and ``metadata``.

    Raises:
        CheckpointError: it is missing, damaged, or was written by a later kinemix.
    """
    path = Path(folder) / JSON_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: no checkpoint here ({JSON_NAME} is missing): give the folder that training wrote"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}): restore it from a copy") from error
    wanted = {"format", "kinemix", "model", "weights", "metadata"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        raise CheckpointError(
            f"{path}: this is no kinemix checkpoint: it must hold {', '.join(sorted(wanted))}"
        )
    if content["format"] > FORMAT:
        raise CheckpointError(
            f"{path}: written by kinemix {content['kinemix']} in format {content['format']}, and this "
            f"is {VERSION}, which reads up to {FORMAT}: upgrade kinemix"
        )
    return content


def read_hash(folder: str | Path) -> str:
    """SHA-256 of a checkpoint's weights, by which two are told apart.

    Raises:
        CheckpointError: as :func:`read_description`.
    """
    return str(read_description(folder)["weights"]["sha256"])


def _build(folder: Path, description: Mapping[str, Any]) -> VideoModel:
    if "name" not in description:
        raise CheckpointError(
            f"{folder}: kinemix cannot build the backbone {description.get('backbone')!r} by name: make the "
            "network with your code and give it as model="
        )
    try:
        return create_model(**description)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{folder / JSON_NAME}: the network cannot be built: {error}") from error


def _check_weights(folder: Path, entry: Mapping[str, Any]) -> Path:
    path = folder / entry["file"]
    if not path.is_file():
        raise CheckpointError(f"{path}: the weights are missing: copy them beside {JSON_NAME}")
    if (size := path.stat().st_size) != entry["bytes"]:
        raise CheckpointError(
            f"{path}: has {size} bytes instead of {entry['bytes']}: the copy is incomplete, copy it again"
        )
    if _hash_file(path) != entry["sha256"]:
        raise CheckpointError(f"{path}: is not the file that was saved (its hash differs): copy it again")
    return path


def _copy_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, each with memory of its own even where layers share theirs."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }


def _load_weights_(model: nn.Module, path: Path) -> None:
    try:
        load_whole_(model, load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f"{path}: these weights belong to another network: {' '.join(lines)[:300]}"
        ) from error


# --------------------------------------------------------------------------------------------- files, safely


def _name_temporary(folder: Path) -> Path:
    """A free name in the folder itself, since a file moves in one step only within a disk."""
    return folder / f".saving-{secrets.token_hex(8)}"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_SAFETENSORS_OWN = ".tmp??????"
"""The file that safetensors itself writes to before it has the name that it was given; a killed process leaves it."""


def _remove_other_weights(folder: Path, *, keep: str) -> None:
    """Remove what earlier saves left; losing this race against a reader or a closed folder is harmless."""
    for pattern in ("model-*.safetensors", ".saving-*", _SAFETENSORS_OWN):
        for path in folder.glob(pattern):
            if path.name != keep:
                with suppress(OSError):
                    path.unlink()
