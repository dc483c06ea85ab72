"""Which samples have a colour of their own: all classes where they are few, chosen classes or groups elsewhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from kinemix.errors import ConfigError, did_you_mean

MOST_COLOURED = 14
"""Groups that a picture tells apart; beyond, eyes no longer do."""

_SHOWN_OF_MANY = 10


@dataclass(frozen=True)
class Groups:
    """The groups of N samples.

    Attributes:
        names: of the groups.
        members: N places in ``names``; -1 for the others.
        remark: what a reader must know of the choice.
    """

    names: tuple[str, ...]
    members: NDArray[np.int64]
    remark: str = ""

    def pick(self, kept: NDArray[np.bool_]) -> "Groups":
        """The groups of some of the samples."""
        return replace(self, members=self.members[kept])


def group_samples(
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Groups:
    """Groups of samples by their classes.

    Args:
        labels: N class indices; negative where nobody knows.
        class_names: K names.
        classes: names or shell patterns of the classes to tell apart; each class is a group.
        groups: name of each group -> names or patterns of its classes.

    Without either, each class that has a sample is a group, if they are no more than :data:`MOST_COLOURED`; of
    more, the ten with most samples.

    Raises:
        ConfigError: both are given; a name or pattern that fits no class; a class in two groups; too many groups.
    """
    if classes is not None and groups is not None:
        raise ConfigError("classes and groups both say what is told apart: give one of them")
    if groups is not None:
        return _group_by(labels, class_names, groups)
    if classes is not None:
        chosen = list(dict.fromkeys(k for pattern in classes for k in _match(pattern, class_names)))
        return _number(labels, {class_names[k]: (k,) for k in chosen})
    counts = Counter(labels[labels >= 0].tolist())
    if len(counts) <= MOST_COLOURED:
        return _number(labels, {class_names[k]: (k,) for k in sorted(counts)})
    most = sorted(sorted(counts), key=lambda k: -counts[k])[:_SHOWN_OF_MANY]
    remark = (
        f"In colour: the {_SHOWN_OF_MANY} of {len(counts)} classes with most videos; --classes or --groups choose "
        "others."
    )
    return replace(_number(labels, {class_names[k]: (k,) for k in sorted(most)}), remark=remark)


def read_groups(path: str | Path) -> dict[str, list[str]]:
    """A YAML file of groups: the name of each, and a list of names or patterns of its classes.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as groups ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: holds no groups: write `name: [class, class, ...]` lines")
    for name, classes in content.items():
        if not isinstance(classes, list) or not classes:
            raise ConfigError(
                f"{path}: group {name!r} is no list of classes: write {name}: [class, class, ...]"
            )
    return {str(name): [str(one) for one in classes] for name, classes in content.items()}


def _group_by(
    labels: NDArray[np.int64], class_names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Groups:
    places: dict[str, tuple[int, ...]] = {}
    taken: dict[int, str] = {}
    for name, patterns in groups.items():
        chosen = dict.fromkeys(k for pattern in patterns for k in _match(pattern, class_names))
        for k in chosen:
            if k in taken:
                raise ConfigError(
                    f"class {class_names[k]!r} is in the groups {taken[k]!r} and {name!r}: leave one out"
                )
            taken[k] = name
        places[name] = tuple(chosen)
    return _number(labels, places)


def _match(pattern: str, class_names: Sequence[str]) -> list[int]:
    exact = [k for k, name in enumerate(class_names) if name == pattern]  # a name may hold a bracket
    found = exact or [k for k, name in enumerate(class_names) if fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(f"no class fits {pattern!r}: {did_you_mean(pattern, class_names)}")
    return found


def _number(labels: NDArray[np.int64], places: Mapping[str, Sequence[int]]) -> Groups:
    if len(places) > MOST_COLOURED:
        raise ConfigError(
            f"{len(places)} groups cannot be told apart by colour: choose {MOST_COLOURED} or fewer (--classes), or "
            "put classes together (--groups)"
        )
    members = np.full(len(labels), -1, np.int64)
    for number, classes in enumerate(places.values()):
        members[np.isin(labels, list(classes))] = number
    return Groups(tuple(places), members)
