"""Call one function on many items, in worker processes here or elsewhere.

This is all that places have in common, so it stands here once: at most as many items are under way as there are
workers, and the next one is asked for when somebody can do it; an item whose worker was killed is done again; one
whose process hung or crashed is reported; what is asked for in order is not kept waiting without bound.
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sized
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Generic, Literal, TypeVar

from kinemix.data._guarded import RETRIES, ChildDiedError
from kinemix.data.bulk.local import LOCAL
from kinemix.data.bulk.workplace import Attempt, Crew, Workplace
from kinemix.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 64
"""Items a worker that may be finished before one that stands in front of them in the order."""


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What came of an item.

    Attributes:
        index: of the item.
        value: what the function returned, or None.
        failure: ``hung`` (it took too long) or ``crashed`` (its process died), or None.
        detail: the failure, as a part of a sentence.
    """

    index: int
    value: Result | None
    failure: Literal["hung", "crashed"] | None = None
    detail: str = ""


def call_on_all(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    max_seconds: float,
    on: Workplace = LOCAL,
    ordered: bool = False,
) -> Generator[Outcome[Result]]:
    """``work`` on each of ``items``; each has one outcome.

    Args:
        work: called in the workers. It keeps its state from one item to the next, and starts anew with its process.
            It, its items and its results must pickle; where processes are forked, ``work`` need not.
        items: asked for one by one as workers become free.
        workers: processes, at least one; no more are started than there are items, where that is known.
        max_seconds: for one item.
        on: where the workers are.
        ordered: yield outcomes in the order of the items.

    Yields:
        Outcomes as they come, unless ``ordered``. Close the generator to end the workers at once.

    Raises:
        ConfigError: fewer than one worker, or there is no such place to work at.
        Exception: whatever ``work`` raised.
    """
    if workers < 1:
        raise ConfigError(f"--workers {workers}: give at least 1")
    if isinstance(items, Sized):
        workers = min(workers, len(items))
    waiting = iter(items)
    if not (first := list(islice(waiting, 1))):
        return
    crew = on.hire(work, workers=workers, max_seconds=max_seconds)
    try:
        yield from _work_through(crew, chain(first, waiting), ahead=_AHEAD * workers if ordered else None)
    finally:
        crew.close()


def _work_through(crew: Crew, items: Iterable[Any], *, ahead: int | None) -> Generator[Outcome[Any]]:
    """Outcomes as they come; or in order, with no more than ``ahead`` items given out from the first missing one."""
    waiting = enumerate(items)
    under_way: dict[int, Any] = {}
    again: deque[tuple[int, Any]] = deque()
    deaths = Counter[int]()
    early: dict[int, Outcome[Any]] = {}
    given, turn = 0, 0
    is_over = False
    while True:
        while crew.num_free and (again or not (is_over or (ahead is not None and given >= turn + ahead))):
            following = again.popleft() if again else next(waiting, None)
            if following is None:
                is_over = True
                break
            index, item = following
            given = max(given, index + 1)
            under_way[index] = item
            crew.give(index, item)
        if is_over and not (under_way or again):
            return
        for attempt in crew.take():
            item = under_way.pop(attempt.index)
            if isinstance(attempt.error, ChildDiedError) and attempt.error.end == "killed":
                deaths[attempt.index] += 1
                if deaths[attempt.index] <= RETRIES:
                    again.append((attempt.index, item))
                    continue
            outcome = _conclude(attempt)
            if ahead is None:
                yield outcome
            else:
                early[outcome.index] = outcome
        while turn in early:
            yield early.pop(turn)
            turn += 1


def _conclude(attempt: Attempt) -> Outcome[Any]:
    if attempt.error is None:
        return Outcome(attempt.index, attempt.value)
    if isinstance(attempt.error, ChildDiedError):
        failure: Literal["hung", "crashed"] = "hung" if attempt.error.end == "hung" else "crashed"
        return Outcome(attempt.index, None, failure, attempt.error.reason)
    raise attempt.error
