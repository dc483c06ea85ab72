"""Validation: the held-out samples through the network, on all processes together."""

from collections.abc import Callable

from lightning.fabric import Fabric

from kinemix.data.loader import TestLoader
from kinemix.engine.launch import gather
from kinemix.engine.parts import Parts, find_mirrors
from kinemix.evaluate.evaluator import evaluate
from kinemix.evaluate.scores import Scores, merge_scores


def validate(
    fabric: Fabric, parts: Parts, loader: TestLoader, *, on_batch: Callable[[int], object]
) -> Scores:
    """Scores of the held-out samples, the same on all processes.

    Args:
        fabric: launched.
        parts: of the run.
        loader: of the held-out samples.
        on_batch: called with the number of videos of every batch that is done.
    """
    with fabric.autocast():
        scores = evaluate(
            parts.network if parts.average is None else parts.answering,
            loader,
            ids=[sample.name for sample in parts.splits.val.samples],
            space=parts.splits.space,
            protocol=parts.config.protocol,
            mirrored_labels=find_mirrors(parts.config, parts.splits.space),
            description=parts.model.description,
            device=fabric.device,
            on_batch=on_batch,
        )
    return merge_scores(gather(fabric, scores))
