"""What a confusion matrix says when it is too large to be read from end to end."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

_LISTED = 20

_ORDERED_BEST = 200
"""Classes up to which the order is the best that the clusters allow; finding it takes long with many."""


def order_by_confusion(confusion: NDArray[np.integer]) -> list[int]:
    """Classes in an order in which those that are taken for each other stand together.

    Agglomerative clustering with average linkage; classes are the nearer, the more of their samples are answered
    with each other.

    Args:
        confusion: ``K K`` counts; rows are labels, columns are answers.
    """
    if len(confusion) < 3:
        return list(range(len(confusion)))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(
        squareform(distance, checks=False), "average", optimal_ordering=len(confusion) <= _ORDERED_BEST
    )
    return [int(leaf) for leaf in leaves_list(tree)]


def list_confusions(confusion: NDArray[np.integer], *, most: int = _LISTED) -> list[tuple[int, int, int]]:
    """The commonest mistakes: label, answer, count; the greatest count first."""
    wrong = confusion - np.diag(np.diag(confusion))
    rows, columns = wrong.nonzero()
    ranked = np.argsort(-wrong[rows, columns], kind="stable")[:most]
    return [(int(rows[i]), int(columns[i]), int(wrong[rows[i], columns[i]])) for i in ranked]
