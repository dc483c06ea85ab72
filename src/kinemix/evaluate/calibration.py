"""Whether a network knows how sure it may be: of answers given with 80 % confidence, 80 % should be right.

Source: Guo et al., "On Calibration of Modern Neural Networks".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinemix.errors import DataError
from kinemix.evaluate.compare import is_right
from kinemix.evaluate.ensemble import to_probabilities
from kinemix.evaluate.scores import Scores

NUM_BINS = 15
"""Of the paper."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Confidence beside accuracy. B bins of equal width; those without samples hold NaN.

    Attributes:
        counts: ``B``, samples.
        confidence: ``B``, mean probability of the answer.
        accuracy: ``B``, share that is right.
        error: expected calibration error: the mean distance of the two, over the samples.
        worst: the greatest distance in any bin.
        mean_confidence: over all samples.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float
    worst: float
    mean_confidence: float

    @property
    def edges(self) -> NDArray[np.float64]:
        """``B + 1`` ends of the bins."""
        return np.linspace(0, 1, len(self.counts) + 1)


def measure_calibration(scores: Scores, *, bins: int = NUM_BINS) -> Calibration:
    """Expected calibration error and what a reliability diagram shows.

    Args:
        scores: logits, or probabilities.
        bins: of equal width, from 0 to 1; each holds its upper end.

    Raises:
        DataError: no samples.
    """
    if not len(scores.labels):
        raise DataError("no samples: there is nothing to count")
    confidence = to_probabilities(scores).max(axis=1)
    right = is_right(scores)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, weights=confidence, minlength=bins) / counts
        shares = np.bincount(place, weights=right, minlength=bins) / counts
    gaps = np.abs(means - shares)
    return Calibration(
        counts=counts,
        confidence=means,
        accuracy=shares,
        error=float(np.nansum(gaps * counts) / len(right)),
        worst=float(np.nanmax(gaps)),
        mean_confidence=float(confidence.mean()),
    )
