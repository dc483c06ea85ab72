"""A child process that may hang or crash without harm: it is replaced, and its caller learns why it ended.

FFmpeg is C that reads files from anywhere. A decoder that never comes back cannot be stopped from within its
process, and one that crashes takes its process along. So it runs in a child that arms an alarm before each
piece of work; if the alarm rings, the system ends the child, whatever it is doing, even where nobody waits for
it any more. Whoever asked sees the pipe close, says what happened, and goes on with a new child.

Children are forked on Linux: they start at once, and need no importable ``__main__``. Elsewhere they are spawned.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch

CAN_GUARD = sys.platform == "linux"
"""Whether children are forked. Only such a child can have one of its own, as a loader's worker needs."""

End = Literal["hung", "crashed", "killed"]
"""How a child died: by its alarm, by itself, or by SIGKILL, which comes from outside and is nobody's fault."""

RETRIES = 2
"""How often a piece of work is done again whose child was killed: by a person, a scheduler, or for want of memory."""

_GRACE_SECONDS = 5.0
"""How long an alarm may take to end a child: one that waits for a dead disk does not die at once."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildDiedError(Exception):
    """The child ended instead of answering; ``reason`` says why, as a part of a sentence, and ``end`` how."""

    def __init__(self, reason: str, end: End) -> None:
        self.reason, self.end = reason, end
        super().__init__(reason)

    def __reduce__(self) -> tuple[type, tuple[str, End]]:
        return type(self), (self.reason, self.end)


class GuardedChild:
    """Calls ``work`` in a process of its own.

    Args:
        work: called with each request; what it returns or raises must be picklable, and elsewhere than on Linux
            itself. It keeps its state from one request to the next, as long as the child lives.
        max_seconds: for one request.

    Attributes:
        generation: how many children there have been; a new one knows nothing of what the last one was told.
    """

    def __init__(self, work: Callable[[Any], Any], *, max_seconds: float) -> None:
        self.generation = 0
        self._work, self._max_seconds = work, max_seconds
        self._process: _Forked | Any | None = None
        self._pipe: Connection | None = None
        self._deadline = 0.0

    def start(self) -> None:
        """Start the child now, if there is none: the fewer threads there are, the better."""
        if self._process is not None:
            return
        ours, theirs = Pipe()
        if CAN_GUARD:
            self._process = _Forked(lambda: _serve(theirs, self._work, self._max_seconds), unused=ours)
        else:
            task = (theirs, self._work, self._max_seconds)
            self._process = multiprocessing.get_context("spawn").Process(
                target=_serve, args=task, daemon=True
            )
            self._process.start()
        theirs.close()
        self._pipe, self.generation = ours, self.generation + 1

    @property
    def pipe(self) -> Connection:
        """Readable as soon as :meth:`take` would not wait."""
        assert self._pipe is not None
        return self._pipe

    @property
    def remaining(self) -> float:
        """Seconds after which :meth:`take` gives the child up."""
        return max(0.0, self._deadline - time.monotonic())

    def give(self, request: Any) -> None:
        """Hand a request over; its answer is then to be taken."""
        self.start()
        try:
            self.pipe.send(request)
        except ConnectionError:  # it died while it had nothing to do
            self._bury()
            self.start()
            with contextlib.suppress(ConnectionError):  # this one too: take() will find out
                self.pipe.send(request)
        self._deadline = time.monotonic() + self._max_seconds + _GRACE_SECONDS

    def take(self) -> Any:
        """The answer to what was given, as soon as it is there.

        Raises:
            ChildDiedError: the child hung or crashed; the next request is answered by a new one.
            Exception: whatever ``work`` raised.
        """
        try:
            if not self.pipe.poll(self.remaining):
                raise self._give_up()
            failed, answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise self._bury() from None
        if failed:
            raise answer
        return answer

    def ask(self, request: Any) -> Any:
        """The child's answer: :meth:`give`, then :meth:`take`."""
        self.give(request)
        return self.take()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._bury()

    def _give_up(self) -> ChildDiedError:
        """Leave behind a child that even its alarm did not end."""
        assert self._process is not None
        self._process.kill()
        self.pipe.close()
        self._process = self._pipe = None
        return self._describe_hang()

    def _bury(self) -> ChildDiedError:
        """Wait for a child that has ended; why it did."""
        assert self._process is not None
        self._process.join()
        self.pipe.close()
        code = self._process.exitcode
        self._process = self._pipe = None
        if code is None or code >= 0:
            return ChildDiedError(f"its decoder ended the process (exit code {code})", "crashed")
        if -code == getattr(signal, "SIGALRM", None):
            return self._describe_hang()
        if -code == signal.SIGKILL:
            return ChildDiedError("its decoder crashed (SIGKILL; out of memory?)", "killed")
        return ChildDiedError(f"its decoder crashed ({signal.Signals(-code).name})", "crashed")

    def _describe_hang(self) -> ChildDiedError:
        return ChildDiedError(f"took longer than {self._max_seconds:g} s", "hung")


class _Forked:
    """A forked process, with what is used of :class:`multiprocessing.Process`, which daemons may not have."""

    def __init__(self, call: Callable[[], None], *, unused: Connection) -> None:
        self.exitcode: int | None = None
        parent = os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork beside threads; the child uses none of their locks.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            try:
                unused.close()
                _die_with(parent)
                call()
            finally:
                os._exit(70)  # whatever happened, this process must not go on as if it were its parent

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def join(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        self.exitcode = os.waitstatus_to_exitcode(status)


def _die_with(parent: int) -> None:
    """Let the system kill this process when its parent is gone: what it makes, somebody else makes again."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone already
        os._exit(0)


def _serve(pipe: Connection, work: Callable[[Any], Any], max_seconds: float) -> None:
    """The child: answers until nobody asks any more, and never returns."""
    has_alarm = hasattr(signal, "setitimer")  # not on Windows
    try:
        # What the parent left to its collector (loaders that are over) is the parent's to end, not this process's.
        gc.freeze()
        for number in (signal.SIGALRM, signal.SIGCHLD) if has_alarm else ():
            signal.signal(number, signal.SIG_DFL)
        # Whether to stop is its caller's business, who closes the pipe or kills it: a video that was being read
        # when a scheduler ended the job is not a broken one.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        torch.set_num_threads(1)
        while True:
            request = pipe.recv()
            if has_alarm:
                signal.setitimer(signal.ITIMER_REAL, max_seconds)
            try:
                answer = (False, work(request))
            except Exception as error:
                answer = (True, _make_picklable(error))
            if has_alarm:
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
