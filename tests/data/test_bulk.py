"""Every item has one outcome, whatever becomes of the processes that work on it; the local ones are tried here."""

import csv
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinemix.cli import main
from kinemix.cli.bulk import keep_for_answers
from kinemix.data import _guarded
from kinemix.data._guarded import CAN_GUARD, ChildDiedError, GuardedChild
from kinemix.data.bulk import Outcome, Workplace, call_on_all, run
from kinemix.data.bulk.on_ray import _RayCrew
from kinemix.data.bulk.workplace import Attempt, Crew
from kinemix.errors import ConfigError, UnreadableVideoError

pytestmark = pytest.mark.skipif(not CAN_GUARD, reason="closures pass to forked processes alone")


def _call(work: Callable[[Any], Any], items: Any, **options: Any) -> list[Outcome[Any]]:
    return list(call_on_all(work, items, **{"workers": 2, "max_seconds": 60, **options}))


def _wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# A crew without processes: what call_on_all makes of all that may happen.


class _ScriptedCrew(Crew):
    """Workers that finish in any order, die of some items, and are not always there."""

    def __init__(self, draw: random.Random, *, workers: int, deaths: dict[int, int]) -> None:
        self.draw, self.workers, self.deaths = draw, workers, deaths
        self.starting, self.busy, self.tries = workers, dict[int, Any](), Counter[int]()
        self.is_closed = False

    @property
    def num_free(self) -> int:
        return self.workers - self.starting - len(self.busy)

    def give(self, index: int, item: Any) -> None:
        assert self.num_free > 0
        assert index not in self.busy
        self.busy[index] = item
        self.tries[index] += 1

    def take(self) -> Sequence[Attempt]:
        assert self.starting or self.busy, "this would wait for ever"
        if self.starting and (not self.busy or self.draw.random() < 0.3):
            self.starting -= 1
            return []
        attempts = []
        for index in self.draw.sample(sorted(self.busy), self.draw.randint(1, len(self.busy))):
            item = self.busy.pop(index)
            if self.tries[index] <= self.deaths.get(index, 0):
                self.starting += 1
                attempts.append(Attempt(index, error=ChildDiedError("was killed", "killed")))
            else:
                attempts.append(Attempt(index, item * 10))
        return attempts

    def close(self) -> None:
        self.is_closed = True


class _Scripted(Workplace):
    def __init__(self, crew: _ScriptedCrew) -> None:
        self.crew = crew

    def hire(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> Crew:
        assert workers == self.crew.workers
        return self.crew

    def close(self) -> None: ...


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(0, 400, 100))
def test_every_item_has_one_outcome(seed: int, ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_AHEAD", 2)
    for number in range(seed, seed + 100):
        _check_outcomes(random.Random(number), ordered)


def _check_outcomes(draw: random.Random, ordered: bool) -> None:
    count, workers = draw.randint(1, 30), draw.randint(1, 4)
    deaths = {index: draw.randint(1, run.RETRIES + 2) for index in range(count) if draw.random() < 0.3}
    crew = _ScriptedCrew(draw, workers=workers, deaths=deaths)
    pulled, told = 0, list[Outcome[Any]]()

    def pull() -> Iterator[int]:
        nonlocal pulled
        for number in range(count):
            pulled += 1
            yield number

    for outcome in call_on_all(
        str, pull(), workers=workers, max_seconds=1, on=_Scripted(crew), ordered=ordered
    ):
        told.append(outcome)
        # No more are under way than there are workers; or, in order, finished before their turn.
        assert pulled - len(told) <= (2 * workers if ordered else workers) + 1
    by_index = {outcome.index: outcome for outcome in told}
    assert sorted(by_index) == list(range(count))
    assert len(told) == count
    if ordered:
        assert [outcome.index for outcome in told] == list(range(count))
    for index, outcome in by_index.items():
        if deaths.get(index, 0) > run.RETRIES:
            assert (outcome.failure, outcome.detail) == ("crashed", "was killed")
        else:
            assert (outcome.value, outcome.failure) == (index * 10, None)
        assert crew.tries[index] == 1 + min(deaths.get(index, 0), run.RETRIES)
    assert crew.is_closed


def test_one_slow_item_does_not_let_the_others_run_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class LastFirst(_ScriptedCrew):
        def take(self) -> Sequence[Attempt]:
            self.starting = 0
            index = max(self.busy, default=None)
            return [] if index is None else [Attempt(index, self.busy.pop(index))]

    monkeypatch.setattr(run, "_AHEAD", 2)
    pulled = list[int]()
    items = (pulled.append(number) or number for number in range(40))  # type: ignore[func-returns-value]
    crew = LastFirst(random.Random(0), workers=2, deaths={})
    outcomes = call_on_all(str, items, workers=2, max_seconds=1, on=_Scripted(crew), ordered=True)
    assert next(outcomes).index == 0
    assert pulled == [0, 1, 2, 3]
    assert [outcome.index for outcome in outcomes] == list(range(1, 40))


def test_nothing_is_hired_for_nothing() -> None:
    class Nowhere(_Scripted):
        def hire(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> Crew:
            raise AssertionError

    place = Nowhere(_ScriptedCrew(random.Random(0), workers=1, deaths={}))
    assert _call(str, [], on=place) == []
    assert _call(str, iter([]), on=place) == []
    with pytest.raises(ConfigError, match="--workers 0: give at least 1"):
        _call(str, [1], workers=0)


# Processes.


def test_order_is_kept_although_later_items_are_quicker() -> None:
    def work(number: int) -> tuple[int, int]:
        time.sleep(0.2 if number == 0 else 0)
        return number, os.getpid()

    outcomes = _call(work, range(8), ordered=True)
    assert [outcome.value[0] for outcome in outcomes] == list(range(8))
    assert len({outcome.value[1] for outcome in outcomes}) == 2
    assert os.getpid() not in {outcome.value[1] for outcome in outcomes}
    unordered = [outcome.index for outcome in _call(work, range(8))]
    assert sorted(unordered) == list(range(8))
    assert unordered != list(range(8))


def test_a_hang_or_crash_costs_its_item_alone() -> None:
    def work(job: int) -> int:
        if job == 2:
            time.sleep(600)
        if job == 3:
            os._exit(9)
        if job == 4:
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        return 10 * job

    outcomes = _call(work, range(7), max_seconds=0.5, ordered=True)
    assert [(o.value, o.failure, o.detail) for o in outcomes] == [
        *((10 * n, None, "") for n in (0, 1)),
        (None, "hung", "took longer than 0.5 s"),
        (None, "crashed", "its decoder ended the process (exit code 9)"),
        (None, "crashed", "its decoder crashed (SIGSEGV)"),
        *((10 * n, None, "") for n in (5, 6)),
    ]


def test_a_hang_that_its_own_alarm_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: int) -> int:
        if job == 1:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            time.sleep(600)
        return job

    monkeypatch.setattr(_guarded, "_GRACE_SECONDS", 0.2)
    outcomes = _call(work, range(3), workers=1, max_seconds=0.2, ordered=True)
    assert [(o.value, o.detail) for o in outcomes] == [(0, ""), (None, "took longer than 0.2 s"), (2, "")]


def test_what_a_killed_worker_did_is_done_again(tmp_path: Path) -> None:
    """SIGKILL comes from outside: once is an accident, and whoever always dies of it is reported."""

    def work(job: str) -> str:
        tries = tmp_path / job
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if job == "always" or (job == "once" and tries.read_text() == "x"):
            os.kill(os.getpid(), signal.SIGKILL)
        return tries.read_text()

    outcomes = _call(work, ["a", "once", "always", "b"], ordered=True)
    assert [(o.value, o.failure, o.detail) for o in outcomes] == [
        ("x", None, ""),
        ("xx", None, ""),
        (None, "crashed", "its decoder crashed (SIGKILL; out of memory?)"),
        ("x", None, ""),
    ]
    assert (tmp_path / "always").read_text() == "x" * (1 + run.RETRIES)


def test_a_worker_that_dies_idle_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RETRIES", 0)
    outcomes = call_on_all(lambda _: os.getpid(), range(3), workers=1, max_seconds=60)
    pids = []
    for outcome in outcomes:
        assert outcome.failure is None
        pids.append(outcome.value)
        os.kill(pids[-1], signal.SIGKILL)
        _wait_until(lambda: not _is_alive(pids[-1]))
    assert len(set(pids)) == 3


@pytest.mark.parametrize("end", ["close", "throw"])
def test_the_end_of_the_caller_is_the_end_of_the_workers(tmp_path: Path, end: str) -> None:
    def work(number: int) -> int:
        (tmp_path / f"{number} {os.getpid()}").touch()
        time.sleep(600 if number else 0)
        return number

    outcomes = call_on_all(work, range(3), workers=2, max_seconds=600)
    assert next(outcomes).index == 0
    pids = {int(path.name.split()[1]) for path in tmp_path.iterdir()}
    if end == "close":
        outcomes.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            outcomes.throw(KeyboardInterrupt)
    assert len(pids) in (1, 2)
    assert not any(_is_alive(pid) for pid in pids)


def test_workers_do_not_outlive_a_killed_caller(tmp_path: Path) -> None:
    """Even one that is busy: what it makes, somebody else makes again."""
    inner = GuardedChild(lambda _: time.sleep(600), max_seconds=600)

    def start_another(_: object) -> int:
        inner.give(None)
        assert isinstance(inner._process, _guarded._Forked)
        return inner._process._pid

    outer = GuardedChild(start_another, max_seconds=60)
    pid = outer.ask(None)
    assert _is_alive(pid)
    outer.close()
    _wait_until(lambda: not _is_alive(pid))


def test_a_defect_is_raised_not_swallowed() -> None:
    def fail(number: int) -> int:
        return 1 // number

    with pytest.raises(ZeroDivisionError) as error:
        _call(fail, [1, 2, 0, 3])
    assert any("in fail" in note for note in error.value.__notes__)
    with pytest.raises(UnreadableVideoError, match=r"x\.mp4: no frames"):
        _call(lambda _: (_ for _ in ()).throw(UnreadableVideoError("x.mp4", "no frames")), [1])


class _Dropped:
    """Something in a cycle, which only the collector ends; it tells in which process."""

    def __init__(self, told: Path) -> None:
        self.told, self.itself = told, self

    def __del__(self) -> None:
        with self.told.open("a") as file:
            file.write(f"{os.getpid()}\n")


def test_workers_leave_alone_what_the_main_process_has_dropped(tmp_path: Path) -> None:
    gc.disable()
    try:
        _Dropped(tmp_path / "told")
        outcomes = _call(lambda generation: gc.collect(generation) >= 0, [2, 2], workers=1)
        assert [outcome.value for outcome in outcomes] == [True, True]
        assert not (tmp_path / "told").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "told").read_text() == f"{os.getpid()}\n"


# The command line.


class _FakeRay:
    """As much of Ray as a crew uses; the first items kill their actors, one in each of the ways that Ray tells of."""

    def __init__(self) -> None:
        names = ("RayActorError", "OutOfMemoryError", "NodeDiedError")
        base = type("RayError", (Exception,), {})
        kinds = {name: type(name, (base,), {}) for name in names}
        self.exceptions = SimpleNamespace(RayError=base, **kinds)
        self.deaths = list(kinds.values())

    def remote(self, **_: object) -> Callable[[type], SimpleNamespace]:
        ready = SimpleNamespace(remote=lambda: lambda: None)
        attempt = SimpleNamespace(remote=lambda index, item: lambda: self._attempt(index, item))
        actor = SimpleNamespace(get_ready=ready, attempt=attempt)
        return lambda kind: SimpleNamespace(remote=lambda *facts: actor)

    def _attempt(self, index: int, item: int) -> Attempt:
        if self.deaths:
            raise self.deaths.pop()("it is gone")
        return Attempt(index, item + 1)

    def wait(self, coming: list[Any], *, num_returns: int) -> tuple[list[Any], list[Any]]:
        return coming[:num_returns], coming[num_returns:]

    def get(self, coming: Callable[[], Any]) -> Any:
        return coming()

    def kill(self, actor: object, *, no_restart: bool) -> None: ...


class _OnFakeRay(Workplace):
    def hire(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> Crew:
        return _RayCrew(_FakeRay(), work, workers=workers, max_seconds=max_seconds, gpus=0)

    def close(self) -> None: ...


def test_what_a_worker_of_ray_did_is_done_again_whatever_it_died_of() -> None:
    outcomes = call_on_all(str, [1, 2, 3, 4], workers=2, max_seconds=1, on=_OnFakeRay(), ordered=True)
    assert [(o.value, o.failure) for o in outcomes] == [(2, None), (3, None), (4, None), (5, None)]


def test_what_other_threads_print_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with keep_for_answers():
        thread = threading.Thread(target=lambda: print("(raylet) a worker died", flush=True))
        thread.start()
        thread.join()
        print("an answer", flush=True)
        csv.writer(sys.stdout, lineterminator="\n").writerow(("a", 1))
    told = capsys.readouterr()
    assert (told.out, told.err) == ("an answer\na,1\n", "(raylet) a worker died\n")


# Where there is no Ray, or no use for it.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "videos", "out", "--on", "ray"], "--on ray needs Ray: pip install 'kinemix[ray]'"),
        (["doctor", "videos", "--on", "ray"], "--on ray needs Ray: pip install 'kinemix[ray]'"),
        (["doctor", "videos", "--ray_address", "auto"], "--ray_address: belongs to --on ray"),
        (["predict", "run", "--on", "spark", "a.mp4"], "on is 'spark': it must be 'local' or 'ray'"),
    ],
)
def test_what_has_no_place_is_refused(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
