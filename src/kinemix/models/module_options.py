"""The options of a temporal module: which there are, which of them say where it goes, and what each may be."""

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from kinemix.errors import ConfigError, did_you_mean
from kinemix.hints import describe_type, fits
from kinemix.temporal.base import TemporalModule


def list_options(module_class: type[TemporalModule]) -> tuple[list[str], list[str]]:
    """Names of a module's own options, and of those of its plan (where it goes)."""
    own = [p for p in inspect.signature(module_class).parameters if p != "site"]
    planning = [p for p in inspect.signature(module_class.choose_insertion).parameters if p != "backbone"]
    return own, planning


def split_options(
    module_class: type[TemporalModule], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the module itself, and options of its plan.

    Raises:
        ConfigError: there is no such option, or its value is of a type that it cannot have.
    """
    own, planning = list_options(module_class)
    known = own + planning
    hints = _read_hints(module_class)
    for option, value in options.items():
        if option not in known:
            nearest = did_you_mean(option, known) if known else "it takes none"
            raise ConfigError(f"{module_class.name} has no option {option!r}: {nearest}")
        if not fits(value, hints.get(option, Any)):
            raise ConfigError(f"{option} is {value!r}: it must be {describe_type(hints[option])}")
    return {o: v for o, v in options.items() if o in own}, {o: v for o, v in options.items() if o in planning}


def _read_hints(module_class: type[TemporalModule]) -> dict[str, Any]:
    try:
        return get_type_hints(module_class.choose_insertion) | get_type_hints(module_class.__init__)
    except NameError:  # a module of others, whose annotations name what is imported for type checkers alone
        return {}
