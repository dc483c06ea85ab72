"""A batch whose loss or gradient is no number: written down, so that it can be looked at and met again.

Training is the same whenever it is done again, so the way to the batch is the run itself, resumed. Beside it the
clips are kept as the network saw them, with the random numbers that its dropout drew from.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinemix.atomic import write_atomically
from kinemix.data.annotations import Annotations
from kinemix.data.dataset import Batch
from kinemix.models.sharding import take_local

PATTERN = "bad-batch-*"
_NAMED = 10
"""Tensors of the network that are named, at most."""


def write_bad_batch(
    directory: Path,
    *,
    what: str,
    batches: Sequence[Batch],
    samples: Annotations,
    model: nn.Module,
    rng: Mapping[str, Any],
    facts: Mapping[str, Any],
    resume_from: int,
) -> Path:
    """Write ``bad-batch-<step>-<process>.json`` for people and a ``.pt`` of the same name for programs.

    Args:
        directory: of the run.
        what: what is wrong.
        batches: micro-batches of the step, whose gradients are added up, to the last one, in which it came up.
        samples: of the training split.
        model: named are its tensors that are not finite.
        rng: states of the random number generators at the start of the step.
        facts: epoch, ``iteration``, ``process``, and what else there is to say.
        resume_from: steps of the optimizer in the run's last checkpoint.

    Returns:
        Path of the JSON file.

    Raises:
        OSError: they cannot be written.
    """
    path = directory / f"bad-batch-{facts['iteration']:08d}-{facts['process']}.json"
    tensors = path.with_suffix(".pt")
    resume = f"kinemix train --resume --out {shlex.quote(str(directory))}"
    content = {
        "what": what,
        **facts,
        "samples": [
            {
                "index": index,
                "path": samples.samples[index].path,
                "labels": [samples.space.class_names[label] for label in samples.list_classes(index)],
            }
            for batch in batches
            for index in batch.indices.tolist()
        ],
        "clips": [describe_clips(batch.clips) for batch in batches],
        "not_finite": name_broken_tensors(model),
        "reproduce": {
            "training": f"{resume}   # goes on after step {resume_from} and comes to this batch again",
            "batches": f"torch.load({str(tensors)!r})   # clips, labels, indices; rng at the start of the step",
        },
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    kept = {name: [getattr(batch, name) for batch in batches] for name in ("clips", "labels", "indices")}
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    write_atomically(tensors, lambda partial: torch.save({**kept, "rng": dict(rng)}, partial))
    return path


def describe_clips(clips: Tensor) -> dict[str, Any]:
    """Whether what the network was shown is sound: where it is, the trouble is the training's, not the data's."""
    if not clips.numel():
        return {"shape": list(clips.shape)}
    return {
        "shape": list(clips.shape),
        "finite": bool(clips.isfinite().all()),
        "lowest": float(clips.min()),
        "highest": float(clips.max()),
    }


def name_broken_tensors(model: nn.Module) -> list[str]:
    """The first parameters and buffers that are not finite."""
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    values = take_local(list(tensors.values()))  # of parts, this process's own: the others are not asked
    broken = [name for name, value in zip(tensors, values, strict=True) if not value.isfinite().all()]
    return broken[:_NAMED]
