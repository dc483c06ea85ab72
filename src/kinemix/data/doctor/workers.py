"""Calls in worker processes that a hung or crashing decoder cannot take down.

A decoder is C code: it may loop for ever or die of a damaged file, and no exception can stop either. So each
worker does one call at a time under a deadline; one that passes it is killed, one that dies is noticed, and a
new worker takes its place. The standard executors cannot end a running call, which is why this is not one.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Literal, TypeVar

import torch

Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """How one call ended.

    Attributes:
        index: of what was given.
        value: what the call returned, or None.
        failure: ``hung`` (killed at its deadline) or ``crashed`` (the process died), or None.
        detail: the failure in words.
    """

    index: int
    value: Result | None
    failure: Literal["hung", "crashed"] | None = None
    detail: str = ""


class _Worker:
    """One process, its pipe, and what it is doing."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        # Forked where that is possible, as the loader's workers are: they start at once.
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.connection, call), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork beside threads; a progress bar is one, and no worker draws.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            self.process.start()
        theirs.close()
        self.index: int | None = None
        self.deadline = 0.0

    def give(self, index: int, given: Any, limit: float) -> None:
        self.index, self.deadline = index, time.monotonic() + limit
        self.connection.send(given)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def call_bounded(
    call: Callable[[Given], Result], givens: Sequence[Given], *, workers: int, limit: float
) -> Iterator[Outcome[Result]]:
    """``call`` on each of ``givens``, each exactly once, as the results come.

    Args:
        call: runs in the workers; its argument and result must pickle.
        givens: one argument a call.
        workers: processes, at least one.
        limit: seconds a call; the worker that takes longer is killed.

    Yields:
        One outcome for each, in no fixed order.

    Raises:
        RuntimeError: ``call`` raised; its traceback is the message.
    """
    waiting = iter(enumerate(givens))
    crew = [_Worker(call) for _ in range(min(workers, len(givens)))]
    try:
        for worker in crew:
            worker.give(*next(waiting), limit)
        while busy := [worker for worker in crew if worker.index is not None]:
            until = min(worker.deadline for worker in busy) - time.monotonic()
            ready = wait([worker.connection for worker in busy], timeout=max(0.0, until))
            for worker in busy:
                outcome: Outcome[Result] | None = None
                if worker.connection in ready:
                    outcome = _receive(worker)
                elif time.monotonic() >= worker.deadline:
                    assert worker.index is not None
                    detail = f"no answer within {limit:.0f} s, so it was stopped"
                    outcome = Outcome(worker.index, None, "hung", detail)
                if outcome is None:
                    continue
                if outcome.failure is not None:
                    worker.end()
                    worker = _replace(crew, worker, call)
                worker.index = None
                if (following := next(waiting, None)) is not None:
                    worker.give(*following, limit)
                yield outcome
    finally:
        for worker in crew:
            worker.end()


def _replace(crew: list[_Worker], gone: _Worker, call: Callable[[Any], Any]) -> _Worker:
    fresh = _Worker(call)
    crew[crew.index(gone)] = fresh
    return fresh


def _receive(worker: _Worker) -> "Outcome[Any]":
    assert worker.index is not None
    try:
        raised, value = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        return Outcome(worker.index, None, "crashed", _explain_exit(worker.process.exitcode))
    if raised:
        raise RuntimeError(value)
    return Outcome(worker.index, value)


def _explain_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the decoder's process died of {signal.Signals(-code).name}"
    return f"the decoder's process ended with code {code}"


def _serve(connection: Connection, other_end: Connection, call: Callable[[Any], Any]) -> None:
    """In a worker: answer until the pipe closes. Whether to stop on Ctrl-C is the main process's business."""
    other_end.close()
    # What the parent left to its collector (loaders that are over) is the parent's to end, not this process's.
    gc.freeze()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    while True:
        try:
            given = connection.recv()
        except EOFError:
            return
        try:
            answer = (False, call(given))
        except Exception:
            answer = (True, traceback.format_exc())
        connection.send(answer)
