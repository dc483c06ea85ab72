"""What the verbs for many files share: where their workers are, and how they end.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from kinemix.cli.options import Options
from kinemix.errors import ConfigError

if TYPE_CHECKING:
    from kinemix.data.bulk import Workplace

_RAY_OPTIONS = ("ray_address", "ray_gpus_per_worker")


def add_workplace(options: Options, *, gpus: bool = False) -> None:
    """Declare where the workers are.

    Args:
        options: of the verb, which has ``--workers``.
        gpus: whether its workers have use for them.
    """
    options.add(
        "--on", Literal["local", "ray"], "local", about="where the workers are: here, or on a Ray cluster"
    )
    options.add(
        "--ray_address",
        str | None,
        about="of the cluster: HOST:PORT, auto (this machine's), local (start one); by default RAY_ADDRESS or local",
    )
    if gpus:
        options.add(
            "--ray_gpus_per_worker",
            float | None,
            about="set aside by Ray; by default none; 0.5: two share one",
        )


def read_names(file: str) -> list[str]:
    """The lines of a text file, without those that are empty; ``-`` is standard input.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigError(f"--list {file}: cannot be read ({reason})") from error
    return [line for line in text.splitlines() if line.strip()]


@contextmanager
def open_workplace(given: Any) -> Iterator["Workplace"]:
    """The place that the options name. SIGTERM ends what is done there as Ctrl-C does.

    Raises:
        ConfigError: options contradict each other; Ray is not installed.
    """
    from kinemix.data.bulk import LOCAL, RayCluster

    asked = {name: given[name] for name in _RAY_OPTIONS if given.get(name) is not None}
    if asked and given.on != "ray":
        raise ConfigError(f"--{next(iter(asked))}: belongs to --on ray; add it, or leave this out")
    if given.on == "local":
        with _end_on_sigterm():
            yield LOCAL
        return
    cluster = RayCluster(given.ray_address, gpus_per_worker=asked.get("ray_gpus_per_worker", 0))
    with _end_on_sigterm(), keep_for_answers(), cluster:
        yield cluster


@contextmanager
def keep_for_answers() -> Iterator[None]:
    """Send to standard error what other threads print: one of Ray's tells there of every worker that dies."""
    before, sys.stdout = sys.stdout, cast(TextIO, _OneThreads(sys.stdout))
    try:
        yield
    finally:
        sys.stdout = before


class _OneThreads:
    """A stream for the thread that made this."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def _choose(self) -> TextIO:
        return self._stream if threading.get_ident() == self._thread else sys.stderr

    def write(self, text: str) -> int:
        return self._choose().write(text)

    def flush(self) -> None:
        self._choose().flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _end_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be caught
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
