"""YAML files of options: one may build on others, and those that come with kinemix are recipes with names.

::

    base: _something_v1          # another file beside this one (or a list of them), whose options come first
    recipe: {...}                # what the file is about (kinemix.engine.recipes); no option
    optim: {lr: 0.01}            # options, by group or dotted
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinemix.errors import ConfigError, did_you_mean

PREFIX = "recipe:"
"""Stands before the name of a recipe wherever a file can be named."""

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "_recipes", _HERE.parents[1] / "recipes")
"""Where recipes are: in an installed package, and in a clone."""


@dataclass(frozen=True)
class ConfigFile:
    """One file, without those that it builds on.

    Attributes:
        path: of the file.
        options: nested, as they are written.
        recipe: what it says about itself.
    """

    path: Path
    options: dict[str, Any]
    recipe: dict[str, Any]


def read_config_files(name: str | Path) -> list[ConfigFile]:
    """A file and those that it builds on, the deepest first: options of later ones win.

    Args:
        name: path, or ``recipe:NAME``.

    Raises:
        ConfigError: a file is missing, no YAML, builds on itself, or holds something else than options.
    """
    return list(_follow(find_config_file(name), ()))


def find_config_file(name: str | Path) -> Path:
    """The path of a config file, or of the recipe of that name.

    Raises:
        ConfigError: there is no such recipe; the message suggests the nearest.
    """
    if not str(name).startswith(PREFIX):
        return Path(name)
    recipe = str(name).removeprefix(PREFIX)
    path = find_recipes_folder() / f"{recipe}.yaml"
    if path.name.startswith("_") or not path.is_file():
        raise ConfigError(f"no recipe {recipe!r}: {did_you_mean(recipe, list_recipe_names())}")
    return path


def list_recipe_names() -> list[str]:
    """All recipes: ``mixtconv/sthv1-mstnet-8f`` and so on. Files with a leading underscore are parts of others."""
    folder = find_recipes_folder()
    paths = (path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("*.yaml")))
    return [path.as_posix() for path in paths if not path.name.startswith("_")]


def find_recipes_folder() -> Path:
    """Where the recipes are.

    Raises:
        ConfigError: neither in the package nor beside it.
    """
    for folder in _FOLDERS:
        if folder.is_dir():
            return folder
    raise ConfigError(f"{_FOLDERS[0]}: the recipes are missing: install kinemix again")


def _follow(path: Path, under: tuple[Path, ...]) -> Iterator[ConfigFile]:
    if path.resolve() in under:
        raise ConfigError(f"{path}: builds on itself: remove it from base in one of its files")
    values = _read_yaml(path)
    bases, recipe = values.pop("base", []), values.pop("recipe", {})
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: base is {bases!r}: it must be the name of a file, or a list of names")
    for base in bases:
        yield from _follow(_find_base(path, base), (*under, path.resolve()))
    yield ConfigFile(path, values, recipe if isinstance(recipe, dict) else {})


def _find_base(path: Path, base: str) -> Path:
    if base.startswith(PREFIX):
        return find_config_file(base)
    return path.parent / (base if base.endswith((".yaml", ".yml")) else f"{base}.yaml")


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a config file ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no YAML: correct it ({' '.join(str(error).split())})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config file holds `option: value` lines, not {type(values).__name__}")
    return values


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans: `flip: off` is a word, as everywhere else."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF")
)
