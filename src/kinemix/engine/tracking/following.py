"""The trackers of a run, following its log: each in a thread of its own, so that none of them stops a training.

A tracker that fails is told of once, and tried again; a record stays in line until it is taken. At the end the trackers
have a while to catch up, and what is left over is told: the log has it, and a resumed run sends it. Which of the log's
records a tracker holds already, it says itself when the run is resumed, so none is sent twice.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from kinemix.atomic import write_atomically
from kinemix.config import to_dict
from kinemix.engine.interrupt import Interrupted
from kinemix.engine.logbook import FILE_NAME as LOG_NAME
from kinemix.engine.logbook import read_log
from kinemix.engine.run_directory import LOCK_NAME, read_run_config
from kinemix.engine.tracking import Opening, Outcome, Tracker, shelf
from kinemix.engine.tracking.base import PATIENCE
from kinemix.errors import CheckpointError, ConfigError

IDENTITIES_NAME = "tracking.json"
"""In the run directory: by what each tracker finds the run again."""

_NOTE = "note: "

_LONGEST_PAUSE = 60.0
"""Seconds between two tries."""


class Followers:
    """The trackers of a run; use it in a ``with`` block, which tells them how the run has ended.

    Args:
        names: as in :attr:`kinemix.config.TrainConfig.track`.
        directory: of the run.
        config: its options.
        count: counts the model (:class:`kinemix.engine.tracking.Opening`).
        say: tells people one line.
        resume_at: step of the optimizer from which the run goes on, and whose log is sent as far as a tracker does
            not hold it.
        is_needed: whether it is an error if one cannot be opened; else that is told, and the others are used.
        kept: where records lie that a tracker has not taken, and what sends them, as a part of a sentence.

    Raises:
        ConfigError: there is no such tracker; one cannot be opened.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        directory: Path,
        config: Mapping[str, Any],
        count: Callable[[], Mapping[str, int]],
        say: Callable[[str], None],
        resume_at: int | None = None,
        is_needed: bool = True,
        kept: str = f"they are in {LOG_NAME}, and --resume sends them",
    ) -> None:
        self._say, self._kept = say, kept
        self._followers: list[_Follower] = []
        identities = read_identities(directory)
        for name in dict.fromkeys(names):
            kind = shelf.get(name)
            opening = Opening(
                directory=directory,
                config=config,
                count=count,
                identity=identities.get(name, {}),
                resume_at=resume_at,
            )
            try:
                tracker = kind(opening)
            except Exception as error:  # each service has errors of its own
                reason = _describe(error)
                if not is_needed:
                    say(f"{_NOTE}{kind.title} cannot be opened and is left out ({reason})")
                    continue
                self.close("failed")
                raise ConfigError(
                    f"track: {kind.title} cannot be opened ({reason}): mend that, or leave {name} out"
                ) from error
            if tracker.identity:
                identities[name] = dict(tracker.identity)
                _write_identities(directory, identities)
            self._followers.append(_Follower(tracker, say=say))
            if tracker.link:
                say(f"{tracker.title}: {tracker.link}")
        if resume_at is not None and self._followers:
            for record in read_log(directory):
                self.note(record)

    def note(self, record: Mapping[str, Any]) -> None:
        """Pass a record of the log on to those that do not hold it."""
        for follower in self._followers:
            if not follower.tracker.holds(record["kind"], record["iteration"]):
                follower.put(record)

    def flush(self) -> None:
        """Wait until what is kept in the run directory is on the disk; no service is waited for."""
        for follower in self._followers:
            if follower.tracker.is_local:
                follower.flush()

    def close(self, outcome: Outcome) -> None:
        """Give all of them a while to catch up, and tell what is left over."""
        for follower in self._followers:
            follower.close(outcome)
        deadline = time.monotonic() + PATIENCE
        for follower in self._followers:
            follower.join(1.0)
            if follower.is_alive():
                self._say(f"waiting for {follower.tracker.title}, {PATIENCE:.0f} seconds at most")
                follower.join(deadline - time.monotonic())
            if line := follower.sum_up(kept=self._kept):
                self._say(f"{_NOTE}{line}")
        self._followers = []

    def __enter__(self) -> "Followers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = kind is not None and issubclass(kind, (Interrupted, KeyboardInterrupt))
        self.close("finished" if kind is None else "stopped" if stopped else "failed")


class _Follower:
    """One tracker, and the records that it has not taken yet."""

    def __init__(self, tracker: Tracker, *, say: Callable[[str], None]) -> None:
        self.tracker, self._say = tracker, say
        self._line: deque[Mapping[str, Any]] = deque()
        self._changed = threading.Condition()
        self._failures, self._reason, self._told = 0, "", False
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"track-{tracker.name}")
        self._thread.start()

    def put(self, record: Mapping[str, Any]) -> None:
        with self._changed:
            self._line.append(record)
            self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._line or self._failures > 0 or not self.is_alive())
        if self._failures == 0:
            self._try(self.tracker.flush)

    def close(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def sum_up(self, *, kept: str) -> str | None:
        """What went wrong, at the end; ``kept`` says where the records are that are left over."""
        title, left = self.tracker.title, len(self._line)
        if left:
            return f"{title} has not taken the last {left} records ({self._reason or 'it does not answer'}): {kept}"
        if self.is_alive():
            return f"{title} is still busy, and the run does not wait for it any longer"
        return f"{title} could not be told how the run has ended ({self._reason})" if self._failures else None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._outcome is not None)
                some, outcome = list(islice(self._line, self.tracker.batch_size)), self._outcome
            taken = not some or self._try(partial(self.tracker.send, some))
            if taken:
                with self._changed:
                    for _ in some:
                        self._line.popleft()
                    self._changed.notify_all()
            if outcome is not None and (not taken or not self._line):
                self._try(partial(self.tracker.close, outcome))
                return
            if not taken:
                with self._changed:  # the end of the run is worth another try at once
                    pause = min(2.0 ** min(self._failures, 10), _LONGEST_PAUSE)
                    self._changed.wait_for(lambda: self._outcome is not None, timeout=pause)

    def _try(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except Exception as error:  # each service has errors of its own, and none of them is the training's
            with self._changed:
                self._failures, self._reason = self._failures + 1, _describe(error)
                is_news, self._told = not self._told and self._outcome is None, True
                self._changed.notify_all()
            if is_news:
                self._say(
                    f"{_NOTE}{self.tracker.title} fails ({self._reason}): training goes on, its records are kept "
                    "and sent when it answers again"
                )
            return False
        self._failures = 0
        return True


def report_test(
    directory: Path, name: str, figures: Mapping[str, float], *, iteration: int, epoch: float
) -> list[str]:
    """Tell the trackers of a run what a test of it has found; those that were added when it was resumed too.

    Args:
        directory: of the run.
        name: of the test.
        figures: shares from 0 to 1, by name.
        iteration, epoch: of the weights.

    Returns:
        What people should know: which tracker has not taken it, and why.
    """
    config = read_run_config(directory)
    told: list[str] = []
    try:
        with (
            FileLock(directory / LOCK_NAME, timeout=0),
            Followers(
                [*config.track, *read_identities(directory)],
                directory=directory,
                config=to_dict(config),
                count=dict,
                say=told.append,
                is_needed=False,
                kept=f"they are in test-{name}.json, and the same test again sends them",
            ) as followers,
        ):
            record = {"time": time.time(), "kind": f"test/{name}", "iteration": iteration, "epoch": epoch}
            followers.note({**record, **figures})
    except Timeout:
        return ["the run is being trained, and its trackers are not told of this test"]
    return [line.removeprefix(_NOTE) for line in told if line.startswith(_NOTE)]


def read_identities(directory: Path) -> dict[str, dict[str, Any]]:
    """By what the trackers of a run find it again, by name of the tracker.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = directory / IDENTITIES_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}): remove it, and the trackers take the run for a new one"
        ) from error


def _write_identities(directory: Path, identities: Mapping[str, Mapping[str, Any]]) -> None:
    text = json.dumps(identities, indent=2) + "\n"
    write_atomically(directory / IDENTITIES_NAME, lambda partial: partial.write_text(text, encoding="utf-8"))


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
