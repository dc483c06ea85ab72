"""The errors a user can mend: one line that names the thing, the value and the cure.

The command line prints such an error without a traceback and exits with code 2. Anything else that is
raised is a defect of kinemix and keeps its traceback.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


class KinemixError(Exception):
    """Something the user gave cannot be used; the message says what, which value, and the cure.

    Attributes:
        agreed: whether every process of a run raises it, so that the first may tell it for all.
    """

    agreed = False


class ConfigError(KinemixError, ValueError):
    """An option is unknown, out of range, or contradicts another."""


class LayoutError(KinemixError, ValueError):
    """A tensor does not have the layout that was promised (see :mod:`kinemix.types`)."""


class DataError(KinemixError):
    """A folder, list file or label cannot be used."""


class UnreadableVideoError(DataError):
    """A video gives no frames. ``path`` and ``reason`` are kept for reports."""

    def __init__(self, path: object, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Exceptions cross process borders (loader workers) by pickling; the default would lose an argument.
        return type(self), (self.path, self.reason)


class CheckpointError(KinemixError):
    """A run directory or checkpoint is missing, incomplete, or belongs to another model."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to an error: the nearest known names, or a short list of all.

    >>> did_you_mean("mixtcnov", ["mixtconv", "tsm"])
    "did you mean 'mixtconv'?"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"known: {shown}" if names else "nothing is known here"


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
        if origin is tuple and parts[-1] is not Ellipsis:
            return f"a list of {len(parts)}, each {describe_type(parts[0])}"
        return f"a list such as {'[a, b]' if parts[0] is str else '[1, 2]'}"
    return str(hint)
