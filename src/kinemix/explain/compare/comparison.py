"""All that a comparison of networks is made of, before anything is drawn: figures, class by class and pair by pair."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from kinemix.engine.progress import CountBar
from kinemix.engine.tested_run import TestedRun
from kinemix.errors import ConfigError, DataError
from kinemix.evaluate.calibration import Calibration, measure_calibration
from kinemix.evaluate.class_changes import ClassChange, compare_classes
from kinemix.evaluate.compare import (
    Agreement,
    Figures,
    PairedComparison,
    compare_scores,
    measure_agreement,
    measure_scores,
)
from kinemix.evaluate.complexity import measure_complexity
from kinemix.evaluate.ensemble import align_scores
from kinemix.evaluate.latency import measure_latency
from kinemix.evaluate.metrics import Metrics, compute_metrics
from kinemix.evaluate.order_sensitivity import OrderSensitivity, measure_order
from kinemix.evaluate.scores import Scores
from kinemix.models.checkpoint import load_checkpoint

_RUNS, _SECONDS = 5, 10.0
"""Of the stopwatch."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: all of them.
        macs: multiply-adds of one view.
        views: clips x crops of a video.
        latency: median seconds for one view, forward; ``None`` where it was not measured.
        device: that it was measured on, with its threads.
    """

    parameters: int
    macs: int
    views: int
    latency: float | None
    device: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Networks on the same videos; the first is what the others are compared with.

    Attributes:
        scores: name -> scores, of the same samples in the same order.
        figures: accuracies with their intervals.
        metrics: accuracies by class, and confusion.
        calibration: confidence and accuracy.
        paired: name -> it, and the first network.
        changes: name -> classes under the first network and under it.
        agreement: names of two -> how their answers go together.
        order: name -> by order of the frames, where there are such tests.
        costs: name -> what it costs, where the network itself is there.
        notices: what the user should know.
    """

    scores: Mapping[str, Scores]
    figures: Mapping[str, Figures]
    metrics: Mapping[str, Metrics]
    calibration: Mapping[str, Calibration]
    paired: Mapping[str, PairedComparison]
    changes: Mapping[str, list[ClassChange]]
    agreement: Mapping[tuple[str, str], Agreement]
    order: Mapping[str, OrderSensitivity] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        return next(iter(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """Every number, as JSON can hold it."""
        return {
            "first": self.first,
            "notices": list(self.notices),
            "networks": {name: self._describe(name) for name in self.scores},
            "against_first": {
                name: {**asdict(paired), "classes": [_describe_change(c) for c in self.changes[name]]}
                for name, paired in self.paired.items()
            },
            "agreement": [
                {"networks": pair, "share": agreement.share, **asdict(agreement)}
                for pair, agreement in self.agreement.items()
            ],
        }

    def _describe(self, name: str) -> dict[str, Any]:
        calibration, order = self.calibration[name], self.order.get(name)
        return {
            "protocol": self.scores[name].describe_protocol(),
            "figures": asdict(self.figures[name]),
            "per_class": {
                c.name: {"count": c.count, "accuracy": c.accuracy} for c in self.metrics[name].per_class
            },
            "calibration": {
                "expected_error": calibration.error,
                "worst_error": calibration.worst,
                "mean_confidence": calibration.mean_confidence,
                "counts": calibration.counts.tolist(),
                "confidence": _without_nan(calibration.confidence),
                "accuracy": _without_nan(calibration.accuracy),
            },
            "order": None if order is None else asdict(order),
            "cost": asdict(self.costs[name]) if name in self.costs else None,
        }


def compare_runs(
    networks: Mapping[str, TestedRun | Scores], *, allow_missing: bool = False, latency: bool = False
) -> Comparison:
    """Measure everything that can be said of networks side by side.

    Args:
        networks: name -> a run with its tests, or scores alone, of which there is then no order and no cost.
        allow_missing: go on with the samples that all have.
        latency: time every network here.

    Raises:
        DataError: samples, labels or classes do not match.
        ConfigError: no network.
    """
    if not networks:
        raise ConfigError("nothing to compare: name two runs or score files")
    runs = {name: one for name, one in networks.items() if isinstance(one, TestedRun)}
    given = {name: one.scores if isinstance(one, TestedRun) else one for name, one in networks.items()}
    for name, one in given.items():
        if one.labels.ndim != 1:
            raise DataError(f"{name}: has several labels a video: only tests with one are compared")
    names = list(given)
    aligned = align_scores(list(given.values()), names, allow_missing=allow_missing)
    scores = dict(zip(names, aligned.members, strict=True))
    others = names[1:]
    return Comparison(
        scores=scores,
        figures={name: measure_scores(one) for name, one in scores.items()},
        metrics={
            name: compute_metrics(one.logits, one.labels, one.class_names) for name, one in scores.items()
        },
        calibration={name: measure_calibration(one) for name, one in scores.items()},
        paired={name: compare_scores(scores[name], scores[names[0]]) for name in others},
        changes={name: compare_classes(scores[names[0]], scores[name]) for name in others},
        agreement={
            pair: measure_agreement(scores[pair[0]], scores[pair[1]]) for pair in combinations(names, 2)
        },
        order={name: measure_order(run.tests) for name, run in runs.items() if len(run.tests) > 2},
        costs={name: measure_cost(run, latency=latency) for name, run in runs.items()},
        notices=aligned.notices,
    )


def measure_cost(run: TestedRun, *, latency: bool, device: torch.device | str = "cpu") -> Cost:
    """Count a network's parameters and multiply-adds, and time it.

    Args:
        run: of it.
        latency: whether to time it.
        device: to time it on.
    """
    model, _ = load_checkpoint(run.folder)
    cost = measure_complexity(model)
    timed = None
    if latency:
        with CountBar(f"timing {Path(run.directory).name}", total=2 * (_RUNS + 1)) as bar:
            timed = measure_latency(
                model.to(device),
                runs=_RUNS,
                seconds=_SECONDS,
                progress=lambda mode, done, most: bar.reach(done + (most if mode == "training" else 0)),
            )
    return Cost(
        parameters=cost.parameters,
        macs=cost.macs,
        views=run.protocol.num_clips * run.protocol.num_crops,
        latency=None if timed is None else timed.forward,
        device="" if timed is None else timed.device,
    )


def _describe_change(change: ClassChange) -> dict[str, Any]:
    told = asdict(change)
    return {**told, "corrected": len(change.corrected), "lost": len(change.lost), "gain": change.gain}


def _without_nan(values: Any) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
