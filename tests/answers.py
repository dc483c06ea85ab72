"""Scores made by hand: what a network is to answer, and how sure it is to be."""

import numpy as np

from kinemix.config import Protocol
from kinemix.evaluate.scores import Scores
from kinemix.label_space import LabelSpace


def make_scores(labels, answers, class_names, *, sureness=4.0, order="forward", seed=0):
    """Scores whose highest logit is the given answer; ``sureness`` is by how much, one number or one a sample."""
    labels, answers = np.asarray(labels), np.asarray(answers)
    generator = np.random.default_rng(seed)
    logits = generator.uniform(-1, 0, (len(labels), len(class_names))).astype(np.float32)
    logits[np.arange(len(labels)), answers] = sureness
    return Scores(
        ids=tuple(f"/videos/{number}.mp4" for number in range(len(labels))),
        indices=np.arange(len(labels)),
        logits=logits,
        labels=labels,
        space=LabelSpace(class_names=tuple(class_names)),
        protocol=Protocol(),
        order=order,
        model={"name": "made", "epoch": 1},
    )


def draw_scores(num_classes, per_class, *, share, seed, class_names=None):
    """Scores of a network that is right about such a share, and else answers with the class's neighbour or any."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.arange(num_classes), per_class)
    other = np.where(
        generator.random(len(labels)) < 0.6,
        (labels ^ 1) % num_classes,
        generator.integers(num_classes, size=len(labels)),
    )
    answers = np.where(generator.random(len(labels)) < share, labels, other)
    sureness = generator.gamma(4, 1, len(labels))
    names = class_names or [f"Moving something {n} away from something else" for n in range(num_classes)]
    return make_scores(labels, answers, names, sureness=sureness, seed=seed)
