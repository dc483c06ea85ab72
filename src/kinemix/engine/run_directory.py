"""The run directory: everything that says what a run was, and one run at a time in it.

::

    runs/tsm_resnet18-gestures-001/
      config.yaml          every option, resolved: `kinemix train --config config.yaml` does it again
      environment.json     versions, cores, devices, git commit, command
      splits/train.csv     the videos and labels, as they were
      splits/val.csv
      log.jsonl            every step and every validation; tensorboard/ and other trackers hold the same
      tracking.json        by what trackers elsewhere know the run; wandb/ is W&B's own
      profile.md           where the time of some steps goes, if that was asked; profile-trace.json.gz shows it
      unreadable.csv       videos that gave no frames, if any
      bad-batch-*          the batch whose loss or gradient was no number, if that stopped the run
      last/  best/         checkpoints: weights, one JSON, and in last/ the state to go on from
      earlier/step-*/      those before `last`, if keep_last asks for more than one
"""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from kinemix.atomic import write_atomically
from kinemix.config import TrainConfig, flatten, from_dict, to_dict
from kinemix.engine.bad_batch import PATTERN
from kinemix.engine.environment import describe_environment
from kinemix.engine.launch import count_processes
from kinemix.engine.logbook import FILE_NAME as LOG_NAME
from kinemix.engine.logbook import read_log
from kinemix.engine.training_state import list_resumable
from kinemix.errors import CheckpointError, ConfigError
from kinemix.models.checkpoint import JSON_NAME

CONFIG_NAME = "config.yaml"
MISSING_NAME = "missing.txt"
LOCK_NAME = ".lock"

_LEFT_BY_A_START = (
    *(CONFIG_NAME, MISSING_NAME, "environment.json", "log.jsonl", "tracking.json", "unreadable.csv"),
    *("profile.md", "profile-trace.json.gz"),
)

FREE_TO_CHANGE = {
    *(
        "resume",
        "out",
        "validate_every",
        "save_steps",
        "save_minutes",
        "keep_last",
        "track",
        "profile",
        "data.workers",
        "data.cache",
    ),
    *("data.max_unreadable", "data.max_missing", "data.max_seconds"),
    *("machine.accelerator", "machine.threads", "machine.compile", "machine.recompute"),
    *("machine.channels_last", "machine.devices", "machine.nodes", "machine.strategy"),
}
"""Options that may differ when a run is resumed: but for rounding, they do not change what is learned."""

_OF_A_MACHINE = {"data.workers", "data.cache", "data.max_seconds", "machine.accelerator", "machine.threads"}


def open_run_directory(config: TrainConfig) -> "RunDirectory":
    """Make the directory of a new run, or open the one to be resumed, and lock it.

    Args:
        config: ``out`` and ``resume`` say which; the model's and the data's names make a default name.

    Raises:
        ConfigError: the directory holds another run, is in use, or cannot be written; or the run to be
            resumed has other options.
    """
    with tell_unusable():
        path = Path(config.out) if config.out else make_numbered(config)
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: this is a file, and the run needs a directory; give another --out")
        path.mkdir(parents=True, exist_ok=True)
        return RunDirectory(path, config)


@contextmanager
def tell_unusable() -> Iterator[None]:
    """Where a directory for runs cannot be made or written, raise a :class:`ConfigError` that says which."""
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"{error.filename}: no permission to write there; give another --out") from error
    except (NotADirectoryError, FileNotFoundError, FileExistsError) as error:
        raise ConfigError(
            f"{error.filename}: no directory can be made there ({error.strerror}); give another --out"
        ) from error


class RunDirectory:
    """An open run directory; use it in a ``with`` block, which holds the lock."""

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        locked_before = (path / LOCK_NAME).exists()
        self._lock = FileLock(path / LOCK_NAME)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(f"{path}: another process is training there; give another --out") from None
        try:
            self._claim(config, started_before=locked_before)
            self._drop_halves()
        except BaseException:
            self._lock.release()
            if not locked_before:
                (path / LOCK_NAME).unlink(missing_ok=True)
            raise

    def _claim(self, config: TrainConfig, *, started_before: bool) -> None:
        if list_resumable(self.path):
            if not config.resume:
                raise ConfigError(
                    f"{self.path}: a run is already there; add --resume to go on, or give another --out"
                )
            check_same_run(read_run_config(self.path), config, path=self.path)
        elif (self.path / "best" / JSON_NAME).exists():
            raise ConfigError(
                f"{self.path}: holds a run whose last/ is gone, so it cannot go on: restore that, or start another "
                f"from its weights: --init_from {self.path / 'best'} and another --out"
            )
        elif self._holds_a_log():
            raise ConfigError(
                f"{self.path}: holds the log of a run whose checkpoints are gone: give another --out, or remove it"
            )
        elif (self.path / CONFIG_NAME).exists() or (started_before and self._holds_a_start()):
            # It ended before anything was learned: nothing of it is worth keeping, and it must not be in the way.
            leftovers = [self.path / name for name in _LEFT_BY_A_START]
            leftovers += (self.path / "tensorboard").glob("events*")
            leftovers += (self.path / "splits").glob("*.csv")
            leftovers += (path for pattern in (PATTERN, "test-*") for path in self.path.glob(pattern))
            for leftover in leftovers:
                leftover.unlink(missing_ok=True)
            if (self.path / "wandb").exists():
                shutil.rmtree(self.path / "wandb")
        elif any(entry.name != LOCK_NAME for entry in self.path.iterdir()):
            raise ConfigError(
                f"{self.path}: holds other files and is no run of kinemix; give --out a directory of its own"
            )

    def _drop_halves(self) -> None:
        """Remove what a killed process was writing; other programs, such as a test, may be writing here too."""
        halves = [half for name in _LEFT_BY_A_START for half in self.path.glob(f".{name}.*.partial")]
        for half in (*halves, *(self.path / "splits").glob(".*.partial")):
            half.unlink(missing_ok=True)

    def _holds_a_log(self) -> bool:
        """Whether a run has come further here than its first epoch, which is saved at its end."""
        if not (self.path / LOG_NAME).is_file():
            return False
        return any(record["kind"] == "val" or record["epoch"] > 1 for record in read_log(self.path))

    def _holds_a_start(self) -> bool:
        """Whether there is nothing but what a run leaves that was killed before its options were written."""
        known = {*_LEFT_BY_A_START, LOCK_NAME, "splits"}
        return all(
            entry.name in known or (entry.name.startswith(".") and entry.suffix == ".partial")
            for entry in self.path.iterdir()
        )

    def write_facts(self, config: TrainConfig, *, train: Iterable[Any], val: Iterable[Any]) -> None:
        """Write what the run is: its options, its environment, its videos.

        Args:
            config: with every option resolved.
            train: rows ``(path, label, name)`` of the training split.
            val: likewise of the validation split.

        Raises:
            ConfigError: on resuming, the videos are not those that the run started with.
        """
        (self.path / "splits").mkdir(exist_ok=True)
        for name, rows in (("train", train), ("val", val)):
            path, text = self.path / "splits" / f"{name}.csv", _format_rows(rows)
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise ConfigError(
                    f"{path}: the {name} videos have changed since this run started; "
                    "restore them, or start a new run in another --out"
                )
            _write_text(path, text)
        _write_text(self.path / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")
        # Last, because this file is what makes the directory a run that can be resumed.
        if not (self.path / CONFIG_NAME).exists():
            _write_text(self.path / CONFIG_NAME, format_config(config))

    def write_missing(self, paths: Sequence[str]) -> None:
        """List the videos that the data names but that are not there, one a line; no file where none is."""
        path = self.path / MISSING_NAME
        if paths:
            _write_text(path, "\n".join(paths) + "\n")
        else:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_run_config(directory: Path) -> TrainConfig:
    """The options of the run in ``directory``.

    Raises:
        CheckpointError: there is no readable ``config.yaml``.
    """
    path = directory / CONFIG_NAME
    try:
        return from_dict(TrainConfig, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ConfigError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read as the options of a run ({error})") from error


def format_config(config: TrainConfig) -> str:
    """The options as YAML that ``kinemix train --config`` reads back."""
    values = to_dict(config)
    del values["protocol"]["input"]  # comes from the model, `size` and `color`
    values["resume"] = False
    return yaml.safe_dump(values, sort_keys=False)


def check_same_run(old: TrainConfig, new: TrainConfig, *, path: Path) -> None:
    """Raise a :class:`ConfigError` naming the first option whose change would make it another run.

    Another number of processes makes none, as long as all together have the same clips in a micro-batch.
    """
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    processes = [count_processes(config.machine) for config in (old, new)]
    clips = [count * config.optim.batch_size for count, config in zip(processes, (old, new), strict=True)]
    if processes[0] != processes[1]:
        if clips[0] != clips[1]:
            fitting, rest = divmod(clips[0], processes[1])
            cure = f"start {processes[0]} processes" + (
                "" if rest else f", or give optim.batch_size={fitting}"
            )
            raise ConfigError(
                f"{path}: the run was started with {clips[0]} clips in a micro-batch ({processes[0]} processes x "
                f"{old.optim.batch_size}), not {clips[1]} ({processes[1]} x {new.optim.batch_size}): {cure}"
            )
        after["optim.batch_size"] = before["optim.batch_size"]
    for key in sorted(before | after):
        free = key in FREE_TO_CHANGE
        given = after.get(key)
        # Size and colour are resolved from the model in the run's file and may be left out here.
        unset = key in ("size", "color") and given is None
        if not (free or unset or key.startswith("protocol.input") or before.get(key) == given):
            raise ConfigError(
                f"{path}: the run was started with {key} = {before.get(key)!r}, not {given!r}; "
                "resume it with its own options, or start a new run in another --out"
            )


def list_options(config: TrainConfig) -> dict[str, Any]:
    """Every option by its dotted name, but for those that each machine may have its own of."""
    return {name: value for name, value in flatten(to_dict(config)).items() if name not in _OF_A_MACHINE}


def name_run(config: TrainConfig) -> str:
    """Of what is trained on what: ``<model>-<data>``."""
    return f"{config.model.replace('/', '_')}-{Path(config.data.source).resolve().stem}"


def make_numbered(config: TrainConfig) -> Path:
    """``runs/<model>-<data>-NNN`` with the first free number, made in one step so that two runs differ."""
    name = name_run(config)
    for number in range(1, 1000):
        path = Path("runs") / f"{name}-{number:03d}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise ConfigError(f"runs/{name}-001 to -999 are all taken; give --out")


def _format_rows(rows: Iterable[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "name"))
    writer.writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
