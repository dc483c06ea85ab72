"""What a type annotation accepts: whether a value fits it, and the same in words for whoever gave another."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may be what an annotation says. What is no class is not judged.

    >>> fits(1, float | None), fits(True, int), fits([1, 2], Sequence[int]), fits("b", Literal["a"])
    (True, False, True, False)
    """
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is Any or not isinstance(origin, type):
        return True
    if origin in (int, float):
        return isinstance(value, Integral if origin is int else Real) and not isinstance(value, bool)
    if not parts or not issubclass(origin, Sequence):
        return isinstance(value, origin)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    if _is_fixed(hint):
        return len(value) == len(parts) and all(map(fits, value, parts))
    return all(fits(one, parts[0]) for one in value)


def as_tuple(value: Any, hint: Any) -> Any:
    """A list as the tuple that an annotation asks for: YAML and JSON know lists alone.

    >>> as_tuple([112, 112], int | tuple[int, int] | None)
    (112, 112)
    """
    return tuple(value) if isinstance(value, list) and "tuple" in str(hint) else value


def describe_type(hint: Any) -> str:
    """What an option with this annotation accepts, in words, as it is written in YAML.

    >>> describe_type(float | None)
    'a number or null'
    >>> describe_type(int | Sequence[int])
    'a whole number or a list such as [1, 2]'
    """
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
    if hint in words:
        return words[hint]
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(describe_type(part) for part in parts)
    if origin is Literal:
        return " or ".join(repr(part) if isinstance(part, str) else str(part) for part in parts)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping such as {name: value}"
    if isinstance(origin, type) and issubclass(origin, Sequence) and parts:
        if _is_fixed(hint):
            return f"a list of {len(parts)}, each {describe_type(parts[0])}"
        return f"a list such as {'[a, b]' if parts[0] is str else '[1, 2]'}"
    return str(hint)


def _is_fixed(hint: Any) -> bool:
    """Whether an annotation is of a tuple of so many, each with a type of its own."""
    return get_origin(hint) is tuple and get_args(hint)[-1] is not Ellipsis
