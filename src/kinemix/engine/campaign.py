"""Many trials, several at once, each in a process of its own: what one of them dies of is its own affair.

What a trial prints goes to ``<run directory>.log``. Stopping the campaign stops its trials, which save; the same
call then goes on with them, and does nothing twice (:mod:`kinemix.engine.trial`).
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from kinemix.engine.environment import count_cores
from kinemix.engine.interrupt import Interrupted, catch_stop
from kinemix.engine.run_directory import LOCK_NAME, tell_unusable
from kinemix.engine.trial import INTERRUPTED, Record, Trial, find_finished, format_trial
from kinemix.errors import ConfigError

POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What became of a trial.

    Attributes:
        trial: what was to be done.
        record: what it came to; ``None`` if it failed or was stopped.
        error: why it failed.
        stopped: whether ``watch`` asked for its end.
        was_done: whether an earlier call had done it.
    """

    trial: Trial
    record: Record | None = None
    error: str | None = None
    stopped: bool = False
    was_done: bool = False


@contextmanager
def hold_directory(directory: Path) -> Iterator[None]:
    """Make a directory of many runs, and keep it for one call: two at once would take each other's trials up.

    Raises:
        ConfigError: another call holds it, or it cannot be made or written.
    """
    lock = FileLock(directory / LOCK_NAME)
    try:
        with tell_unusable():
            directory.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{directory}: another call is at work on these runs: wait for it, or give another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def run_trials(
    trials: Iterable[Trial],
    *,
    jobs: int = 1,
    watch: Callable[[Trial], bool] = lambda trial: False,
) -> Iterator[Finished]:
    """Carry trials out, and tell of each as it ends.

    Args:
        trials: asked for the next one when there is room for it, so they may depend on what came before.
        jobs: how many run at once. They share the cores, unless ``machine.threads`` says otherwise.
        watch: asked now and then about each trial under way whether it is to be stopped.

    Raises:
        ConfigError: a directory holds a finished run with other options.
        CheckpointError: a record cannot be read.
        Interrupted: by Ctrl-C or SIGTERM, after the trials under way were saved.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}: it must be 1 or more")
    queue = iter(trials)
    running: list[_Child] = []
    with catch_stop() as stop:
        try:
            is_over = False
            while running or not is_over:
                while len(running) < jobs and not is_over:
                    trial = next(queue, None)
                    if trial is None:
                        is_over = True
                    elif (record := find_finished(trial)) is not None:
                        yield Finished(trial=trial, record=record, was_done=True)
                    else:
                        running.append(_Child(_share_cores(trial, jobs)))
                if running:
                    time.sleep(POLL_SECONDS)
                if stop.requested:
                    _stop_all(running)
                    raise Interrupted(
                        "stopped; the runs under way were saved, and the same command goes on from there"
                    )
                for child in list(running):
                    if child.is_over():
                        running.remove(child)
                        yield child.tell()
                    elif not child.stopped and watch(child.trial):
                        child.stop()
        finally:
            _stop_all(running)


def make_command(trial: Trial) -> list[str]:
    """What carries a trial out in a process of its own."""
    return [sys.executable, "-m", "kinemix.engine.trial", format_trial(trial)]


def _share_cores(trial: Trial, jobs: int) -> Trial:
    machine = trial.config.machine
    if machine.threads is not None:
        return trial
    threads = max(1, count_cores() // (jobs * (machine.devices or 1)))
    return replace(trial, config=replace(trial.config, machine=replace(machine, threads=threads)))


def _stop_all(running: list["_Child"]) -> None:
    for child in running:
        child.stop()
    for child in running:
        child.process.wait()


class _Child:
    """A process that carries out one trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.stopped = False
        self.log = trial.directory.with_name(trial.directory.name + ".log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                make_command(trial), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def is_over(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        """Ask it to save and end."""
        if not self.is_over():
            self.stopped = True
            self.process.terminate()

    def tell(self) -> Finished:
        if self.process.returncode == 0 and (record := find_finished(self.trial)) is not None:
            return Finished(trial=self.trial, record=record)
        if self.stopped and self.process.returncode in (INTERRUPTED, -signal.SIGTERM):
            return Finished(trial=self.trial, stopped=True)
        return Finished(trial=self.trial, error=self._find_reason())

    def _find_reason(self) -> str:
        if (code := self.process.returncode) < 0:
            name = signal.Signals(-code).name
            memory = ", as the system does when memory is short" if -code == signal.SIGKILL else ""
            return f"ended by {name}{memory} ({self.log})"
        return f"{_read_last_line(self.log)} ({self.log})"


def _read_last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
