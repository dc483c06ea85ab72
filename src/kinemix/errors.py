"""The errors a user can mend: one line that names the thing, the value and the cure.

The command line prints such an error without a traceback and exits with code 2. Anything else that is
raised is a defect of kinemix and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


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
    >>> did_you_mean("sth", ["ctm/hmdb51-one", "sthv1-mstnet-8f"])
    "did you mean 'sthv1-mstnet-8f'?"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if name and not close:
        close = [longer for longer in names if longer.startswith(name)][:3]
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"known: {shown}" if names else "nothing is known here"
