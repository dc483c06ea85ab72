"""What a tracker is: records of the log go in, and it says which of them it holds already."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from kinemix.errors import ConfigError

Outcome = Literal["finished", "stopped", "failed"]
"""How a run has ended: all of it is done, somebody has stopped it, or an error has."""

PATIENCE = 20.0
"""Seconds that trackers have at the end of a run; a job that a cluster stops has some thirty."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a tracker is told when it is opened.

    Attributes:
        directory: of the run.
        config: its options, as :func:`kinemix.config.to_dict` has them.
        count: counts the model, when it is called: ``parameters``, and ``macs`` of one clip.
        identity: by what an earlier process of this run could find it there again; empty in the first.
        resume_at: step of the optimizer from which the run goes on; ``None`` if it starts, or is only added to.
    """

    directory: Path
    config: Mapping[str, Any]
    count: Callable[[], Mapping[str, int]]
    identity: Mapping[str, str] = field(default_factory=dict)
    resume_at: int | None = None


class Tracker:
    """A place for curves, opened for one run.

    Attributes:
        name: as ``track`` has it; the extra of the same name installs what it needs.
        title: as people call it.
        package: that it needs, if not one of kinemix's own.
        batch_size: records that it takes at once, at most.
        is_local: whether it writes into the run directory: it must then hold what a checkpoint knows.
        identity: by what a later process of this run finds it there again.
        link: where to look at it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str | None] = None
    batch_size: ClassVar[int] = 1
    is_local: ClassVar[bool] = False
    identity: Mapping[str, str] = {}
    link: str | None = None

    def __init__(self, opening: Opening) -> None:
        """Open it; whatever is raised, the tracker cannot be used."""
        raise NotImplementedError

    @classmethod
    def check_installed(cls) -> None:
        """Raise a :class:`ConfigError` that names the cure where the package is missing."""
        if cls.package is not None and find_spec(cls.package) is None:
            raise ConfigError(
                f"track: {cls.name} needs {cls.title}, which is not installed: pip install 'kinemix[{cls.name}]'"
            )

    def holds(self, kind: str, iteration: int) -> bool:
        """Whether an earlier process has sent the record of this kind and step."""
        raise NotImplementedError

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take records in, all or none of them; whatever is raised, they are sent again later."""
        raise NotImplementedError

    def flush(self) -> None:
        """Wait until all that was taken in is on the disk."""

    def close(self, outcome: Outcome) -> None:
        """Say how the run has ended, and let go."""
        raise NotImplementedError


def list_scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record of the log, each with its kind in front: ``train/loss``, ``val/top1``."""
    return {
        f"{record['kind']}/{name}": value
        for name, value in record.items()
        if name != "time" and isinstance(value, (int, float))
    }
