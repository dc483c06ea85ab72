"""A place where bulk work is done, and the crew that does it there.

Whatever the place, a worker is a :class:`kinemix.data._guarded.GuardedChild`, and :func:`answer` is what it does:
a place brings items there and attempts back, and has no say in what comes of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kinemix.data._guarded import GuardedChild


@dataclass(frozen=True)
class Attempt:
    """One item was tried.

    Attributes:
        index: of the item.
        value: what the function returned.
        error: what it raised; or :class:`kinemix.data._guarded.ChildDiedError` where a process died of it.
    """

    index: int
    value: Any = None
    error: Exception | None = None


def answer(child: GuardedChild, index: int) -> Attempt:
    """Take what a child was asked for."""
    try:
        return Attempt(index, child.take())
    except Exception as error:
        return Attempt(index, error=error)


class Crew(ABC):
    """Workers for one function, each with one item at a time."""

    @property
    @abstractmethod
    def num_free(self) -> int:
        """Workers that are there and have nothing to do."""

    @abstractmethod
    def give(self, index: int, item: Any) -> None:
        """Hand an item to a free worker."""

    @abstractmethod
    def take(self) -> Sequence[Attempt]:
        """Wait until something happens; what was finished by then. Empty where a worker has only become free."""

    @abstractmethod
    def close(self) -> None:
        """End the workers, whatever they are doing."""


class Workplace(ABC):
    """A place where bulk work is done. Used as a context, it holds on to what it had to start until the end."""

    @abstractmethod
    def hire(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> Crew:
        """A crew.

        Args:
            work: called with each item in a worker's process; it keeps its state from one to the next.
            workers: how many.
            max_seconds: for one item; its process is then replaced.

        Raises:
            ConfigError: there is no such place, or it cannot have such workers.
        """

    @abstractmethod
    def close(self) -> None:
        """End what was started for it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
