"""How much each class needs time: the same clips forwards, reversed, shuffled, and as one frame.

A network that does not look at order answers the first three alike. One that does, and a class whose opposite is
another class, show themselves when the clips run backwards: the answer becomes the opposite.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kinemix.data.views import Order
from kinemix.errors import DataError
from kinemix.evaluate.compare import check_same_samples, is_right
from kinemix.evaluate.scores import Scores

_NEEDED: set[Order] = {"forward", "reverse", "shuffle"}


@dataclass(frozen=True, kw_only=True)
class ClassOrder:
    """One class in several orders.

    Attributes:
        name: of the class.
        count: samples.
        accuracy: share that is right, by order.
        reversed_answer: what most of its samples are answered with when they run backwards.
        reversed_share: how many of them are, as a share.
    """

    name: str
    count: int
    accuracy: Mapping[str, float]
    reversed_answer: str
    reversed_share: float

    @property
    def need(self) -> float:
        """What is lost when the frames are shuffled: all of them are still there, only their order is gone."""
        return self.accuracy["forward"] - self.accuracy["shuffle"]


@dataclass(frozen=True, kw_only=True)
class OrderSensitivity:
    """A network in several orders.

    Attributes:
        accuracy: top-1 by order.
        unchanged: share of the samples that are answered as forwards, by order.
        classes: those that have samples, in the order of the labels.
    """

    accuracy: Mapping[str, float]
    unchanged: Mapping[str, float]
    classes: tuple[ClassOrder, ...]


def measure_order(tests: Mapping[Order, Scores]) -> OrderSensitivity:
    """Compare the tests of one network that differ in the order of frames alone.

    Args:
        tests: order -> scores; ``forward``, ``reverse`` and ``shuffle`` at least.

    Raises:
        DataError: an order is missing, or they are not of the same samples.
    """
    if missing := sorted(_NEEDED - tests.keys()):
        raise DataError(f"order sensitivity needs a test of the order {missing[0]!r} too")
    forward = tests["forward"]
    for scores in tests.values():
        check_same_samples(forward, scores)
    answers = {order: scores.logits.argmax(axis=1) for order, scores in tests.items()}
    right = {order: is_right(scores) for order, scores in tests.items()}
    classes = []
    for label in np.unique(forward.labels).tolist():
        own = forward.labels == label
        ((answer, count),) = Counter(answers["reverse"][own].tolist()).most_common(1)
        classes.append(
            ClassOrder(
                name=forward.class_names[label],
                count=int(own.sum()),
                accuracy={order: float(hits[own].mean()) for order, hits in right.items()},
                reversed_answer=forward.class_names[answer],
                reversed_share=count / int(own.sum()),
            )
        )
    return OrderSensitivity(
        accuracy={order: float(hits.mean()) for order, hits in right.items()},
        unchanged={order: float((given == answers["forward"]).mean()) for order, given in answers.items()},
        classes=tuple(classes),
    )
