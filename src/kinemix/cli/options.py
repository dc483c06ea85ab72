"""Options of the command line, declared by the config's dataclasses and converted by jsonargparse.

Every field of :class:`kinemix.config.TrainConfig` is an option of the same dotted name, explained by its line
in the docstring. A YAML file is read as options that stand before those on the command line, so both are
checked alike and the command line wins.
"""

import json
import re
import types
from argparse import Action, ArgumentError
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from kinemix.config_file import read_config_files
from kinemix.errors import ConfigError, did_you_mean
from kinemix.hints import describe_type

_ALSO_CALLED = {
    "learning_rate": "optim.lr",
    "optimizer": "optim.name",
    "wd": "optim.weight_decay",
    "num_epochs": "optim.epochs",
    "max_epochs": "optim.epochs",
    "num_segments": "protocol.num_frames",
    "frames": "protocol.num_frames",
    "num_workers": "data.workers",
    "arch": "model",
    "backbone": "model",
    "output_dir": "out",
    "input_size": "size",
    "img_size": "size",
}
"""Names that options have elsewhere."""


class _HelpFormatter(DefaultHelpFormatter):
    """Without Python's names of types: :func:`_describe_option` has said in words what an option takes."""

    def _get_help_string(self, action: Action) -> str:
        return action.help or ""


class Options:
    """The options of one verb.

    Args:
        verb: its name.
        usage: what follows the name in the usage line.
        about: one sentence.
    """

    def __init__(self, verb: str, usage: str, about: str) -> None:
        self.verb = verb
        self._parser = ArgumentParser(
            prog=f"kinemix {verb}",
            usage=f"kinemix {verb} {usage}",
            description=about,
            formatter_class=_HelpFormatter,
            exit_on_error=False,
            allow_abbrev=False,
        )
        self._types: dict[str, Any] = {}
        self._several: set[str] = set()
        self._bundles: dict[str, Callable[[str], dict[str, Any]]] = {}
        self._has_config = False

    def add(
        self, name: str, kind: Any, default: Any = None, *, about: str = "", nargs: str | None = None
    ) -> None:
        """Declare one option (``name`` with dashes) or one positional argument (without).

        Args:
            name: as it is written on the command line.
            kind: type of its value.
            default: value where it is not given.
            about: its line in the help.
            nargs: ``?``, ``*`` or ``+``, as in argparse.
        """
        more: dict[str, Any] = {"nargs": nargs} if nargs else {}
        if name.startswith("-") or nargs in ("?", "*"):
            more["default"] = default
        described = _describe_option(about, kind, more.get("default"))
        action = self._parser.add_argument(name, type=kind, help=described, **more)
        self._types[name.lstrip("-")] = kind
        if nargs in ("*", "+"):
            self._several.add(name.lstrip("-"))
        if kind is bool or bool in get_args(kind):  # the option alone switches it on
            action.nargs, action.const = "?", True

    def add_config(self, kind: type[Any], *, skip: tuple[str, ...] = ()) -> None:
        """Declare every field of a config and of the configs in it, and ``--config`` for a YAML file.

        Args:
            kind: a dataclass of :mod:`kinemix.config`.
            skip: dotted names that are no options.
        """
        self._has_config = True
        self._parser.add_argument(
            "--config", help="YAML file of options, or recipe:NAME; those on the command line win"
        )
        for name, annotation, default, about in _walk(kind):
            if not any(name == part or name.startswith(part + ".") for part in skip):
                self.add(f"--{name}", annotation, default, about=about)

    def add_bundle(self, name: str, expand: Callable[[str], dict[str, Any]], *, about: str) -> None:
        """Declare an option whose value stands for values of others.

        It is replaced by them before anything is read, in front of the options of the same source: what stands
        beside it in the same file, or on the same command line, wins.

        Args:
            name: without dashes, dotted like the options that it stands for.
            expand: from the value to the others' values; raises a :class:`ConfigError` for an unknown one.
            about: its line in the help.
        """
        self.add(f"--{name}", str | None, about=about)
        self._bundles[name] = expand

    def add_overrides(self, kind: type[Any], names: tuple[str, ...], *, group: str) -> None:
        """Declare some fields of a config as options ``--group.name`` that are ``None`` unless they are given.

        Args:
            kind: a dataclass of :mod:`kinemix.config`.
            names: of its fields.
            group: name of the config in the whole one.
        """
        for name, annotation, _, about in _walk(kind, f"{group}."):
            if name.removeprefix(f"{group}.") in names:
                self.add(f"--{name}", annotation | None, about=f"{about} (by default the run's)")

    def is_part_of_mapping(self, name: str) -> bool:
        """Whether a dotted name is an entry of an option that is a mapping, such as ``model_options.kernel_sizes``."""
        parts = name.split(".")
        prefixes = (".".join(parts[:count]) for count in range(1, len(parts)))
        return any(get_origin(self._types.get(prefix)) is dict for prefix in prefixes)

    def parse(self, words: list[str]) -> Namespace:
        """Values of all options.

        Raises:
            ConfigError: an unknown option, or a value of the wrong type; the message names the nearest
                option, or the value and what is accepted.
            SystemExit: after ``--help`` is printed.
        """
        words = [_underscore(word) for word in words]
        if self._has_config:
            words = self._read_config_files(words)
        else:
            words = self._expand_bundles(words)
        words = self._keep_texts(words)
        try:
            given = self._parser.parse_args(words)
        except ArgumentError as error:
            self._explain(str(error))
        for name in self._bundles:  # they have been replaced by what they stand for
            given.pop(name, None)
        return given

    def _keep_texts(self, words: list[str]) -> list[str]:
        """Write the elements of lists of texts as texts: a class may be called 3, or 007, or true."""
        kept = list(words)
        for place, word in enumerate(words):
            name, equals, value = word.partition("=")
            if not name.startswith("--") or not _holds_texts(self._types.get(name[2:])):
                continue
            if equals:
                kept[place] = f"{name}={_quote_elements(value)}"
            elif place + 1 < len(words):
                kept[place + 1] = _quote_elements(words[place + 1])
        return kept

    def _read_config_files(self, words: list[str]) -> list[str]:
        """The words with each ``--config FILE`` replaced by the file's options, put in front."""
        from_files: list[str] = []
        rest: list[str] = []
        queue = iter(words)
        for word in queue:
            if word == "--config" or word.startswith("--config="):
                path = word.partition("=")[2] or next(queue, None)
                if path is None:
                    raise ConfigError(
                        "--config needs a file or recipe:NAME: kinemix train DATA --config my.yaml"
                    )
                for file in read_config_files(path):
                    from_files += self._expand_bundles(list(self._as_words(file.options, "", file.path)))
            else:
                rest.append(word)
        return from_files + self._expand_bundles(rest)

    def _expand_bundles(self, words: list[str]) -> list[str]:
        """The words with every bundle replaced by the options that it stands for, in front."""
        expanded: list[str] = []
        rest: list[str] = []
        queue = iter(words)
        for word in queue:
            name, equals, value = word.removeprefix("--").partition("=")
            if word.startswith("--") and name in self._bundles:
                value = value if equals else next(queue, "")
                if value != "null":
                    values = self._bundles[name](value)
                    expanded += [f"--{option}={_as_text(one)}" for option, one in values.items()]
            else:
                rest.append(word)
        return expanded + rest

    def _as_words(self, values: dict[Any, Any], prefix: str, path: Path) -> Iterator[str]:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name in self._types:
                yield f"--{name}={_as_text(value)}"
            elif not any(known.startswith(name + ".") for known in self._types):
                raise ConfigError(f"{path}: unknown option {name!r}: {self._suggest(name)}")
            elif isinstance(value, dict):
                yield from self._as_words(value, name + ".", path)
            elif value is not None:
                raise ConfigError(
                    f"{path}: {name} is {value!r}, but it is a group of options: {self._suggest(name)}"
                )

    def _suggest(self, name: str) -> str:
        """The nearest options: by the whole dotted name, or by its last part in another group."""
        options = [known for known in self._types if known.islower()]
        last = {known.rpartition(".")[2]: known for known in options}
        last |= {other: known for other, known in _ALSO_CALLED.items() if known in options}
        first, dot, rest = name.partition(".")
        group = [known for known in options if known.startswith(first + ".")]
        mappings = [known for known in options if get_origin(self._types[known]) is dict]
        if dot and (close := get_close_matches(first, mappings, n=1)):
            return f"did you mean '{close[0]}.{rest}'?"
        if name.rpartition(".")[2] in last:
            return f"did you mean '{last[name.rpartition('.')[2]]}'?"
        for names in (options, group):
            nearest = did_you_mean(name, names)
            if nearest.startswith("did you mean"):
                return nearest
        return f"kinemix {self.verb} --help lists them"

    def _explain(self, message: str) -> NoReturn:
        """Turn the parser's message into one line that names option, value and cure."""
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            word = match[1]
            if not word.startswith("-"):
                raise ConfigError(f"{word!r}: one argument too many; kinemix {self.verb} --help tells them")
            raise ConfigError(f"unknown option {word.partition('=')[0]!r}: {self._suggest(word.lstrip('-'))}")
        if match := re.match(r'Parser key "([^"]+)"', message):
            name = match[1]
            # An option of a group that the verb lacks.
            if nested := re.search(r"NestedArg\(key='([^']+)'", message):
                unknown = f"{name}.{nested[1]}"
                raise ConfigError(f"unknown option '--{unknown}': {self._suggest(unknown)}")
            given = re.search(r"(?:Got|Given) value: (.*)", message, re.DOTALL)
            value = f" is {given[1].strip()!r}" if given else ""
            kind = describe_type(self._types[name]) if name in self._types else "another value"
            kind += f", or several with blanks between: --{name} A B" * (name in self._several)
            is_switch = bool in (self._types.get(name), *get_args(self._types.get(name)))
            if given and is_switch and Path(given[1].strip().strip("'")).exists():
                kind += f"; --{name} took what stands behind it: put that first"
            raise ConfigError(f"{name}{value}: it must be {kind}")
        if "the following arguments are required" in message or "is required" in message:
            missing = re.findall(r"[A-Z]{2,}", message)
            raise ConfigError(f"{' and '.join(missing) or message} must be given; kinemix {self.verb} --help")
        raise ConfigError(message.removeprefix("argument --"))


def _describe_option(about: str, kind: Any, default: Any) -> str:
    """The line of the help: what an option is about, what it takes, and its value where it is not given.

    >>> _describe_option("loader processes", int, 2)
    'loader processes (a whole number, default: 2)'
    >>> _describe_option("gradients above it are scaled down", float | None, None)
    'gradients above it are scaled down (a number)'
    """
    if default is None and type(None) in get_args(kind):
        kind = Union[tuple(part for part in get_args(kind) if part is not type(None))]  # noqa: UP007
    notes = [] if kind is str else [describe_type(kind)]
    if default not in (None, "", (), [], {}):
        notes.append(f"default: {_as_text(default)}")
    return (about.rstrip(".") + (f" ({', '.join(notes)})" if notes else "")).replace("%", "%%")


def _walk(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Any, Any, str]]:
    """Dotted name, type, default and explanation of every field that is no config itself."""
    annotations = get_type_hints(kind)
    about = {p.arg_name: p.description or "" for p in parse_docstring(kind.__doc__ or "").params}
    for field in fields(kind):
        annotation = annotations[field.name]
        if is_dataclass(annotation) and isinstance(annotation, type):
            yield from _walk(annotation, f"{prefix}{field.name}.")
            continue
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        text = " ".join(about.get(field.name, "").replace("``", "").split())
        yield prefix + field.name, annotation, default, text


def _underscore(word: str) -> str:
    """``--train-per-class`` is ``--train_per_class``: both are written, one is declared."""
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _holds_texts(kind: Any) -> bool:
    """Whether a type is a list of texts or a mapping of texts to texts, or one of them or ``None``."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return all(part is type(None) or _holds_texts(part) for part in parts)
    return get_origin(kind) in (tuple, dict) and set(parts) <= {str, Ellipsis}


def _quote_elements(value: str) -> str:
    """A list or mapping as it is written on the command line, with every element a text."""
    try:
        elements = yaml.load(value, yaml.BaseLoader)  # knows texts alone
    except yaml.YAMLError:
        return value
    return json.dumps(elements, ensure_ascii=False) if isinstance(elements, list | dict) else value


def _as_text(value: Any) -> str:
    """A value of a YAML file as it would be written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)
