"""Processes of this machine."""

from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

from kinemix.data._guarded import GuardedChild
from kinemix.data.bulk.workplace import Attempt, Crew, Workplace, answer


class LocalMachine(Workplace):
    """Processes of this machine."""

    def hire(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> Crew:
        return _LocalCrew(work, workers=workers, max_seconds=max_seconds)

    def close(self) -> None:
        """Nothing was started but crews."""


LOCAL = LocalMachine()
"""The default of all bulk work."""


class _LocalCrew(Crew):
    def __init__(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> None:
        self._free = [GuardedChild(work, max_seconds=max_seconds) for _ in range(workers)]
        self._busy: list[tuple[GuardedChild, int]] = []
        for child in self._free:
            child.start()

    @property
    def num_free(self) -> int:
        return len(self._free)

    def give(self, index: int, item: Any) -> None:
        child = self._free.pop()
        self._busy.append((child, index))
        child.give(item)

    def take(self) -> Sequence[Attempt]:
        ready = wait(
            [child.pipe for child, _ in self._busy], timeout=min(child.remaining for child, _ in self._busy)
        )
        attempts = []
        for child, index in list(self._busy):
            if child.pipe in ready or not child.remaining:
                attempts.append(answer(child, index))
                self._busy.remove((child, index))
                self._free.append(child)
        return attempts

    def close(self) -> None:
        for child in (*self._free, *(child for child, _ in self._busy)):
            child.close()
