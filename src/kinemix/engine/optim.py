"""The optimizer: which parameters learn how fast, and which of them decay."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kinemix.errors import ConfigError, did_you_mean

Kind = Literal["weight", "bias", "norm", "classifier weight", "classifier bias"]
"""What a parameter is for an optimizer; ``norm`` is scale and shift of a normalisation."""

_TSN: Mapping[Kind, tuple[float, bool]] = {
    "weight": (1, True),
    "bias": (2, False),
    "norm": (1, False),
    "classifier weight": (1, True),
    "classifier bias": (2, False),
}
POLICIES: Mapping[str, Mapping[Kind, tuple[float, bool]]] = {
    "tsn": _TSN,
    "tsm": {**_TSN, "classifier weight": (5, True), "classifier bias": (10, False)},
}
"""Factor on the rate, and whether it decays, of every kind: the released code of TSN, and of TSM and MixTConv."""


def group_parameters(
    model: nn.Module,
    *,
    weight_decay: float,
    decay_norms: bool = True,
    policy: str = "uniform",
    lr_scales: Mapping[str, float] | None = None,
    classifier: str | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, each with its ``weight_decay`` and its ``lr_scale``.

    Args:
        model: parameters that need no gradient are left out.
        weight_decay: of the groups that decay.
        decay_norms: of the policy ``uniform``: whether biases and normalisation layers decay too.
        policy: ``uniform``, or one of :data:`POLICIES`.
        lr_scales: further factors on the rate, by shell patterns of the parameters' paths
            (:func:`find_scale`).
        classifier: path of the layer that gives the logits, or that holds the layers that do.

    Raises:
        ConfigError: an unknown policy.
    """
    if policy != "uniform" and policy not in POLICIES:
        raise ConfigError(f"optim.policy {policy!r}: {did_you_mean(policy, ['uniform', *POLICIES])}")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for path, kind, parameter in classify_parameters(model, classifier=classifier):
        if policy == "uniform":
            factor, decays = 1.0, decay_norms or kind.endswith("weight")
        else:
            factor, decays = POLICIES[policy][kind]
        key = factor * find_scale(path, lr_scales or {}), weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (scale, decay), parameters in groups.items()
    ]


def classify_parameters(
    model: nn.Module, *, classifier: str | None = None
) -> Iterator[tuple[str, Kind, nn.Parameter]]:
    """Path and kind of every parameter that learns.

    A normalisation is a layer whose weight has one dimension or none; such a parameter that stands by itself (the
    scale of a layer in ConvNeXt) counts as one too.
    """
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, _, name = path.rpartition(".")
        weight = getattr(model.get_submodule(layer), "weight", None)
        is_bias = name.startswith("bias")
        kind: Kind
        if classifier is not None and f"{layer}.".startswith(f"{classifier}."):
            kind = "classifier bias" if is_bias else "classifier weight"
        elif isinstance(weight, Tensor) and weight.ndim <= 1:
            kind = "norm"
        elif is_bias:
            kind = "bias"
        else:
            kind = "weight" if parameter.ndim > 1 else "norm"
        yield path, kind, parameter


def find_scale(path: str, lr_scales: Mapping[str, float]) -> float:
    """The factor of the last pattern that matches a parameter's path; 1 where none does."""
    return next(
        (lr_scales[pattern] for pattern in reversed(list(lr_scales)) if fnmatchcase(path, pattern)), 1.0
    )


def check_patterns(lr_scales: Mapping[str, float], paths: Iterable[str]) -> None:
    """Raise a :class:`ConfigError` that names the first pattern which no path matches."""
    paths = list(paths)
    for pattern in lr_scales:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise ConfigError(
                f"optim.lr_scales: {pattern!r} matches no parameter; they are called {paths[0]!r} to {paths[-1]!r}"
            )


def build_optimizer(
    groups: list[dict[str, Any]], *, name: str, lr: float, momentum: float = 0.9, nesterov: bool = False
) -> torch.optim.Optimizer:
    """SGD or AdamW over parameter groups.

    Raises:
        ConfigError: an unknown name, or Nesterov's momentum without momentum.
    """
    if name == "sgd":
        if nesterov and momentum <= 0:
            raise ConfigError(f"optim.nesterov needs optim.momentum above 0, which is {momentum}")
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    raise ConfigError(f"optim.name {name!r}: {did_you_mean(name, ['sgd', 'adamw'])}")


def set_rate_(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate, times its own ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
