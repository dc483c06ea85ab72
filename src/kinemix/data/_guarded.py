"""A child process that may hang or crash without harm: it is replaced, and its caller learns why it ended.

FFmpeg is C that reads files from anywhere. A decoder that never comes back cannot be stopped from within its
process, and one that crashes takes its process along. So it runs in a child that arms an alarm before each
piece of work; if the alarm rings, the system ends the child, whatever it is doing, even where nobody waits for
it any more. Whoever asked sees the pipe close, says what happened, and goes on with a new child.

Children are forked, on Linux alone; elsewhere :class:`GuardedChild` does the work in the calling process.
"""

import contextlib
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch

CAN_GUARD = sys.platform == "linux"
"""Whether children are used at all."""

_GRACE_SECONDS = 5.0
"""How long an alarm may take to end a child: one that waits for a dead disk does not die at once."""


class ChildDiedError(Exception):
    """The child ended instead of answering; ``reason`` says why, as a part of a sentence."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class GuardedChild:
    """Calls ``work`` in a process of its own.

    Args:
        work: called with each request; what it returns or raises must be picklable. It keeps its state from
            one request to the next, as long as the child lives.
        max_seconds: for one request.

    Attributes:
        generation: how many children there have been; a new one knows nothing of what the last one was told.
    """

    def __init__(self, work: Callable[[Any], Any], *, max_seconds: float) -> None:
        self.generation = 0
        self._work, self._max_seconds = work, max_seconds
        self._pid: int | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Fork the child now, if there is none: the fewer threads there are, the better."""
        if self._pid is not None or not CAN_GUARD:
            return
        ours, theirs = Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork beside threads; the child uses none of their locks.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            ours.close()
            _serve(theirs, self._work, self._max_seconds)
        theirs.close()
        self._pid, self._pipe, self.generation = pid, ours, self.generation + 1

    def ask(self, request: Any) -> Any:
        """The child's answer.

        Raises:
            ChildDiedError: it hung or crashed; the next request is answered by a new child.
            Exception: whatever ``work`` raised.
        """
        if not CAN_GUARD:
            return self._work(request)
        self.start()
        assert self._pipe is not None
        try:
            self._pipe.send(request)
            if not self._pipe.poll(self._max_seconds + _GRACE_SECONDS):
                raise ChildDiedError(self._give_up())
            failed, answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise ChildDiedError(self._bury()) from None
        if failed:
            raise answer
        return answer

    def interrupt(self) -> None:
        """Kill the child from another thread than the one that asks, which then hears that it died."""
        pid = self._pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self._pid is not None:
            self.interrupt()
            self._bury()

    def _give_up(self) -> str:
        """Leave behind a child that even its alarm did not end."""
        assert self._pid is not None
        assert self._pipe is not None
        os.kill(self._pid, signal.SIGKILL)
        self._pipe.close()
        self._pid = self._pipe = None
        return self._describe_hang()

    def _bury(self) -> str:
        """Wait for a child that has ended; why it did."""
        assert self._pid is not None
        assert self._pipe is not None
        _, status = os.waitpid(self._pid, 0)
        self._pipe.close()
        self._pid = self._pipe = None
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"its decoder ended the process (exit code {code})"
        if -code == signal.SIGALRM:
            return self._describe_hang()
        name = signal.Signals(-code).name
        return f"its decoder crashed ({name}{'; out of memory?' if -code == signal.SIGKILL else ''})"

    def _describe_hang(self) -> str:
        return f"took longer than {self._max_seconds:g} s"


def _serve(pipe: Connection, work: Callable[[Any], Any], max_seconds: float) -> None:
    """The child: answers until nobody asks any more, and never returns."""
    try:
        for number in (signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Whether to stop is its caller's business, who closes the pipe or kills it: a video that was being read
        # when a scheduler ended the job is not a broken one.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        torch.set_num_threads(1)
        while True:
            request = pipe.recv()
            signal.setitimer(signal.ITIMER_REAL, max_seconds)
            try:
                answer = (False, work(request))
            except Exception as error:
                answer = (True, _make_picklable(error))
            signal.setitimer(signal.ITIMER_REAL, 0)
            pipe.send(answer)
    except (EOFError, ConnectionError):
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def _make_picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    error.add_note("".join(traceback.format_exception(error)))
    return error
