"""Starting from the weights of another network: what fits is taken over, and everything else is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from kinemix.errors import CheckpointError
from kinemix.models.checkpoint import find_checkpoint, load_checkpoint
from kinemix.models.foreign import read_foreign_weights
from kinemix.models.foreign.layout import counts_batches
from kinemix.models.video import VideoModel, name_plainly

_NAMED = 3
"""Tensors that a line names."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What became of every tensor; names are those in the backbone, without the wrappers of temporal modules.

    Attributes:
        source: where the weights came from.
        taken: tensors of the network that were there.
        new: tensors of the network that start afresh, because nothing has their name and shape.
        left: tensors of the source that found no place.
        classes_differ: whether the classifier is new because it was made for other classes.
        numbers: how many numbers were taken.
    """

    source: Path
    taken: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]
    classes_differ: bool
    numbers: int

    def describe(self) -> str:
        """One line for whoever trains."""
        parts = [
            f"{len(self.taken)} tensors ({self.numbers / 1e6:.2f} M numbers) taken over from {self.source}"
        ]
        for verb, names in (("start afresh", self.new), ("left behind", self.left)):
            if names:
                more = ", ..." if len(names) > _NAMED else ""
                parts.append(f"{len(names)} {verb} ({', '.join(names[:_NAMED])}{more})")
        if self.classes_differ:
            parts.append("the classifier is new: it was made for other classes")
        return "; ".join(parts)


def start_from_(model: VideoModel, source: str | Path, *, class_names: Sequence[str]) -> Transfer:
    """Load what fits of another network into this one: layers of the same place and shape.

    The temporal modules may be of another kind or stand elsewhere; theirs are then new, and the backbone's layers
    are taken over all the same. The classifier is taken over only if it was made for the same classes.

    Args:
        model: changed in place.
        source: run directory, checkpoint folder, or a file of another project.
        class_names: K names that the network is to learn.

    Raises:
        CheckpointError: it cannot be read, or nothing of it fits.
    """
    path = Path(source)
    found, theirs = _read_source(path, model)
    plain = name_plainly(model)
    classifier = f"{model.classifier}."
    classes_differ = theirs is None or tuple(theirs) != tuple(class_names)
    fitting, taken, new = {}, [], []
    for full, tensor in model.state_dict().items():
        name = plain[full]
        if (classes_differ and name.startswith(classifier)) or not _fits(
            model, full, tensor, found.get(name)
        ):
            new.append(name)
            continue
        fitting[full] = found[name]
        taken.append(name)
    if not any(tensor.ndim > 1 for tensor in fitting.values()):
        raise CheckpointError(
            f"{path}: no layer of it fits {model.description.get('name')}; it holds {_list(found)}"
        )
    model.load_state_dict(fitting, strict=False)
    return Transfer(
        source=path,
        taken=tuple(taken),
        new=_leave_out_counters(new),
        left=_leave_out_counters([name for name in found if name not in set(taken)]),
        classes_differ=classes_differ,
        numbers=sum(tensor.numel() for tensor in fitting.values()),
    )


def _read_source(path: Path, model: VideoModel) -> tuple[Mapping[str, Tensor], Sequence[str] | None]:
    """Tensors by plain name, and the class names if the source tells them."""
    if path.is_file() and path.suffix != ".json":
        return read_foreign_weights(path, model), None
    other, metadata = load_checkpoint(find_checkpoint(path))
    names = name_plainly(other)
    return {names[key]: tensor for key, tensor in other.state_dict().items()}, metadata.get("class_names")


def _fits(model: VideoModel, name: str, ours: Tensor, theirs: Tensor | None) -> bool:
    if theirs is None:
        return False
    layer = model.get_submodule(name.rpartition(".")[0])
    return ours.shape == theirs.shape or (getattr(layer, "interpolate", False) and ours.ndim == theirs.ndim)


def _leave_out_counters(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not counts_batches(name))


def _list(names: Mapping[str, Tensor]) -> str:
    return ", ".join([*list(names)[:_NAMED], "..."])
