"""What a sweep goes over: options of a training, and the values that each may take."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

import yaml

from kinemix.config import TrainConfig
from kinemix.errors import ConfigError, did_you_mean
from kinemix.hints import as_tuple, describe_type, fits

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?P<log>:log)?")

FILLED_IN = ("out", "resume", "data.source")
"""Options that the sweep itself sets."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One option.

    Attributes:
        name: dotted, as on the command line; an entry of a mapping as well (``model_options.kernel_sizes``).
        choices: its values; none for a range.
        low, high: ends of a range, both included.
        log: draw evenly on a logarithmic scale.
        whole: whole numbers alone.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def list_extremes(self) -> tuple[Any, ...]:
        """Values that stand for all: the choices, or the ends of the range."""
        return self.choices or (self.low, self.high)


def parse_axis(text: str) -> Axis:
    """An axis as it is written: ``NAME=a,b,c`` for choices, ``NAME=low..high`` or ``low..high:log`` for a range.

    >>> parse_axis("model_options.kernel_sizes=[3],[1,3]").choices
    ([3], [1, 3])
    >>> parse_axis("optim.lr=1e-3..1e-1:log").log
    True

    Raises:
        ConfigError: it is neither.
    """
    name, equals, values = text.partition("=")
    name, values = name.strip().removeprefix("--"), values.strip()
    if not (name and equals and values):
        raise ConfigError(f"--over {text!r}: write NAME=a,b,c or NAME=low..high or NAME=low..high:log")
    if name in FILLED_IN:
        raise ConfigError(f"--over {name}: the sweep itself says what that is")
    if (match := _RANGE.fullmatch(values)) is not None:
        return _make_range(name, match["low"], match["high"], log=match["log"] is not None)
    try:
        choices = tuple(map(_read_number, yaml.safe_load(f"[{values}]")))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--over {text!r}: no list of values; write them with commas, lists as [1,3]"
        ) from error
    if len({repr(choice) for choice in choices}) < len(choices):
        raise ConfigError(f"--over {text!r}: a value stands there twice")
    return Axis(name=name, choices=choices)


def apply_values(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The same options with others in their place.

    Raises:
        ConfigError: no such option, or a value that it cannot have.
    """
    for name, value in values.items():
        config = _set(config, name.split("."), value, name)
    return config


def _set(config: Any, path: list[str], value: Any, name: str) -> Any:
    first, *rest = path
    known = [item.name for item in fields(config)]
    if first not in known:
        raise ConfigError(f"--over {name}: no option {first!r}: {did_you_mean(first, known)}")
    old = getattr(config, first)
    if rest and is_dataclass(old):
        return replace(config, **{first: _set(old, rest, value, name)})
    if rest and not isinstance(old, dict):
        raise ConfigError(f"--over {name}: {first} has no parts: write {name.rpartition('.')[0]}=...")
    if not rest and is_dataclass(old):
        raise ConfigError(f"--over {name}: that is a group of options: name one of it")
    if rest:
        value = {**old, ".".join(rest): value}
    hint = get_type_hints(type(config))[first]
    if not fits(value, hint):
        raise ConfigError(f"--over {name}: {value!r} is no value of it: it must be {describe_type(hint)}")
    return replace(config, **{first: as_tuple(value, hint)})


def _make_range(name: str, low: str, high: str, *, log: bool) -> Axis:
    whole = all(re.fullmatch(r"[-+]?\d+", end) for end in (low, high))
    axis = Axis(name=name, low=float(low), high=float(high), log=log, whole=whole)
    if axis.low >= axis.high:
        raise ConfigError(f"--over {name}={low}..{high}: the first end must be below the second")
    if log and axis.low <= 0:
        raise ConfigError(f"--over {name}={low}..{high}:log: a logarithmic range begins above 0")
    return replace(axis, low=int(low), high=int(high)) if whole else axis


def _read_number(value: Any) -> Any:
    """YAML takes ``1e-3`` for a text."""
    return float(value) if isinstance(value, str) and re.fullmatch(_NUMBER, value) else value
