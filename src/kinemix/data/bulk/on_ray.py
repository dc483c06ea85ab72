"""Actors of a Ray cluster. Nothing else in kinemix knows Ray.

An actor has a guarded child, as a local worker is one: the same function runs in the same process with the same
bounds, so what comes out is the same. A decoder that hangs or crashes costs the child; only an actor whose own
process is killed, or whose machine is gone, is missed here, and another one takes its place.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kinemix.data._guarded import ChildDiedError, GuardedChild
from kinemix.data.bulk.workplace import Attempt, Crew, Workplace, answer
from kinemix.errors import ConfigError

_MAX_FAILED_STARTS = 3
"""Workers that may die one after the other while they start."""

_SECONDS_TO_CONNECT = 10

_STORE_BYTES = 80 * 2**20
"""Shared memory of a Ray that is started here, about the least it takes: items and answers are small."""


class RayCluster(Workplace):
    """A Ray cluster, or a Ray that is started on this machine and ended with the context.

    Args:
        address: of a cluster to join: ``HOST:PORT``, or ``auto`` for the one that this machine belongs to; ``local``
            starts one here. By default that of the environment variable ``RAY_ADDRESS``, else one is started. A
            process that is connected to Ray already stays where it is.
        gpus_per_worker: that Ray sets aside for each; a fraction lets several share one.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, address: str | None = None, *, gpus_per_worker: float = 0) -> None:
        if address is not None and address.startswith("ray://"):
            raise ConfigError(
                f"--ray_address {address}: run kinemix on a machine of the cluster, with --ray_address auto"
            )
        if gpus_per_worker < 0:
            raise ConfigError(f"--ray_gpus_per_worker {gpus_per_worker:g}: give 0 or more")
        self._address, self._gpus = address or os.environ.get("RAY_ADDRESS") or "local", gpus_per_worker
        self._ray = import_ray()
        self._is_ours = False

    def hire(self, work: Callable[[Any], Any], *, workers: int, max_seconds: float) -> Crew:
        if not self._ray.is_initialized():
            self._connect(workers)
        there = self._ray.cluster_resources().get("GPU", 0)
        if self._gpus > there:
            raise ConfigError(f"--ray_gpus_per_worker {self._gpus:g}: this Ray has {there:g} GPUs")
        return _RayCrew(self._ray, work, workers=workers, max_seconds=max_seconds, gpus=self._gpus)

    def _connect(self, workers: int) -> None:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self._address == "local":
            cores = os.cpu_count() or 1
            options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
            options["num_cpus"] = max(workers, cores)  # whoever asks for more workers than cores gets them
        elif self._address != "auto":
            _check_reachable(self._address)
        try:
            with _keep_signals():
                self._ray.init(address=self._address, **options)
        # Where a machine is too slow, or a cluster unlike this process, Ray raises plain exceptions.
        except Exception as error:
            verb = "started" if self._address == "local" else "joined"
            reason = " ".join(str(error).split())
            raise ConfigError(f"--ray_address {self._address}: Ray cannot be {verb}: {reason}") from error
        self._is_ours = True

    def close(self) -> None:
        if self._is_ours:
            self._is_ours = False
            self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise a :class:`ConfigError` if nobody listens there; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--ray_address {address}: no cluster answers there ({error}): give HOST:PORT of its head node, "
            "auto on a machine of the cluster, or local"
        ) from error


def import_ray() -> Any:
    """Ray, told to be quiet and to report nothing to anybody.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--on ray needs Ray: pip install 'kinemix[ray]'") from error
    return ray


@contextlib.contextmanager
def _keep_signals() -> Iterator[None]:
    """What SIGTERM does is the caller's to say; Ray would make it end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Actor:
    """A worker, on whatever machine it is.

    Args:
        work, max_seconds: of its child.
        folder: the caller's, that relative paths start from.
        wanted: version of the caller's kinemix.
    """

    def __init__(self, work: Callable[[Any], Any], max_seconds: float, folder: str, wanted: str) -> None:
        self._child = GuardedChild(work, max_seconds=max_seconds)
        self._folder, self._wanted = folder, wanted

    def get_ready(self) -> str | None:
        """Why this worker cannot do what the caller would do; ``None`` if it can."""
        if (ours := version("kinemix")) != self._wanted:
            return f"has kinemix {ours}, not {self._wanted}: install the same one on all machines"
        try:
            os.chdir(self._folder)
        except OSError as error:
            return (
                f"cannot enter {self._folder} ({error.strerror}): start in a folder that all machines share"
            )
        self._child.start()
        return None

    def attempt(self, index: int, item: Any) -> Attempt:
        """Try one item."""
        self._child.give(item)
        return answer(self._child, index)


class _RayCrew(Crew):
    def __init__(
        self, ray: Any, work: Callable[[Any], Any], *, workers: int, max_seconds: float, gpus: float
    ) -> None:
        self._ray = ray
        actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Actor)
        facts = (work, max_seconds, str(Path.cwd()), version("kinemix"))
        self._hire: Callable[[], Any] = lambda: actor.remote(*facts)
        # What Ray raises for an actor that died depends on what it died of.
        told = ray.exceptions
        self._lost = (told.RayActorError, told.OutOfMemoryError, told.NodeDiedError)
        self._free: list[Any] = []
        self._busy: dict[
            Any, tuple[Any, int | None]
        ] = {}  # answer to come -> actor and item; None: it starts
        self._failed_starts = 0
        for _ in range(workers):
            self._start_one()

    def _start_one(self) -> None:
        actor = self._hire()
        self._busy[actor.get_ready.remote()] = (actor, None)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def give(self, index: int, item: Any) -> None:
        actor = self._free.pop()
        self._busy[actor.attempt.remote(index, item)] = (actor, index)

    def take(self) -> Sequence[Attempt]:
        ready, _ = self._ray.wait(list(self._busy), num_returns=1)
        actor, index = self._busy.pop(ready[0])
        try:
            got = self._ray.get(ready[0])
        except self._lost as error:
            self._replace(actor, error, was_starting=index is None)
            reason = "its worker's process or machine was lost"
            return [] if index is None else [Attempt(index, error=ChildDiedError(reason, "killed"))]
        self._free.append(actor)
        self._failed_starts = 0
        if index is not None:
            return [got]
        if got is not None:
            raise ConfigError(f"a worker on Ray {got}")
        return []

    def _replace(self, actor: Any, error: Exception, *, was_starting: bool) -> None:
        """Start another one in the place of an actor that is gone, or cannot be reached any more."""
        self._end(actor)
        self._failed_starts += was_starting
        if self._failed_starts >= _MAX_FAILED_STARTS:
            reason = " ".join(str(error).split())
            raise ConfigError(f"Ray cannot start workers; is kinemix installed on all machines? {reason}")
        self._start_one()

    def _end(self, actor: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor, no_restart=True)

    def close(self) -> None:
        for actor in (*self._free, *(actor for actor, _ in self._busy.values())):
            self._end(actor)
