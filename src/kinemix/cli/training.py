"""``kinemix train``, and ``kinemix splits``, which trains on every split of the data.

Imports stand inside the functions, so that ``--help`` answers before torch is loaded.
"""

import sys
from pathlib import Path
from typing import Any, Literal

from kinemix.cli import VERBS
from kinemix.cli.options import Options
from kinemix.cli.together import speak_once
from kinemix.config import TrainConfig, from_dict
from kinemix.errors import ConfigError


def run_train(words: list[str]) -> int:
    """``kinemix train DATA --model NAME``; a run that was stopped and saved has ended well, too."""
    return speak_once(lambda: _train(words))


def _train(words: list[str]) -> int:
    config = read_train_options(words)

    from kinemix.engine.interrupt import Interrupted
    from kinemix.engine.launch import is_first_process
    from kinemix.engine.train import train

    try:
        directory = train(config)
    except Interrupted as interruption:
        if is_first_process():
            print(f"kinemix: {interruption}", file=sys.stderr)
        return 0
    if is_first_process():
        print(directory)
    return 0


def run_splits(words: list[str]) -> int:
    """``kinemix splits DATA --model NAME``."""
    return speak_once(lambda: _splits(words))


def _splits(words: list[str]) -> int:
    options = _declare("splits")
    options.add("--test_protocol", str | None, about="a paper's views for the tests, instead of protocol.*")
    options.add(
        "--test_checkpoint",
        Literal["best", "last"],
        "last",
        about="which weights are tested; the best were chosen on the very videos of the test",
    )
    values = options.parse(words).as_dict()
    protocol, checkpoint = values.pop("test_protocol"), values.pop("test_checkpoint")
    config = read_train_config(values, verb="splits")

    from kinemix.cli.figures import print_splits
    from kinemix.engine.each_split import train_each_split
    from kinemix.engine.launch import is_first_process

    result = train_each_split(config, protocol=protocol, checkpoint=checkpoint)
    if is_first_process():
        print_splits(result)
    return 0


def read_train_options(words: list[str]) -> TrainConfig:
    """The options of ``kinemix train``.

    Raises:
        ConfigError: an unknown option, a value that cannot be, or no data.
    """
    options = _declare("train")
    given = options.parse(words)
    if given.resume and given.out and (path := Path(given.out) / "config.yaml").is_file():
        given = _parse_resumed(options, words, path)
    return read_train_config(given.as_dict(), verb="train")


def _declare(verb: str) -> Options:
    options = Options(verb, "DATA [--model NAME] [--config FILE] [--OPTION VALUE ...]", VERBS[verb])
    add_train_options(options)
    return options


def add_train_options(options: Options) -> None:
    """Declare DATA and every option of a training."""
    options.add(
        "DATA", str, nargs="?", about="a folder with one folder a class, or a list file (data.source)"
    )
    options.add_config(TrainConfig, skip=("protocol.input",))
    options.add_bundle(
        "protocol.name", _expand_protocol, about="a paper's views: gsm-2clip, ...; ? lists them"
    )


def read_train_config(values: dict[str, Any], *, verb: str) -> TrainConfig:
    """The config that the values of DATA and of these options make.

    Raises:
        ConfigError: no data are named.
    """
    del values["config"]
    if source := values.pop("DATA"):
        values["data"]["source"] = source
    if not values["data"]["source"] and values["resume"] is not True:
        raise ConfigError(
            f"no data: name a folder with one folder a class, or a list file: kinemix {verb} DATA"
        )
    return from_dict(TrainConfig, values)


def _parse_resumed(options: Options, words: list[str], path: Path) -> Any:
    """The options of a run that goes on: its own, and behind them those on the command line."""
    cure = f"without the options in {path} the run cannot be resumed: restore the file, or start a new run"
    try:
        given = options.parse(["--config", str(path), *words])
    except ConfigError as error:
        raise ConfigError(f"{error}; {cure}") from error
    if not given.data.source:
        raise ConfigError(f"{path}: names no data; {cure}")
    return given


def _expand_protocol(name: str) -> dict[str, Any]:
    from kinemix.evaluate.named_protocols import find_protocol

    return {f"protocol.{field}": value for field, value in find_protocol(name).views.items()}
