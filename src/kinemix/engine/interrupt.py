"""Ctrl-C and SIGTERM as a wish, not an accident: the loop finishes its step, saves, and stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was stopped from outside; the message says what was saved and how to go on."""


class StopWish:
    """Whether somebody has asked the run to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def catch_stop() -> Iterator[StopWish]:
    """Turn SIGINT and SIGTERM into :attr:`StopWish.requested` while the block runs.

    Loader processes look after themselves (:mod:`kinemix.data.loader`). Outside the main thread signals cannot
    be caught, and the wish is never made.
    """
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    previous = {number: signal.signal(number, wish._receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
