"""Who is held out: a seeded split by class in which a group never stands on both sides.

The split depends on the order of the samples and the seed alone, never on the machine. Sources list their
samples in a fixed order for that reason.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from kinemix.data.annotations import Annotations
from kinemix.errors import ConfigError

Indices = list[int]

# Subjects and source videos as public datasets write them into file names.
_GROUP_PATTERNS = (
    r"_(g\d+)_c\d+",  # UCF101: v_Class_g03_c01
    r"S\d{3}C\d{3}(P\d{3})R\d{3}A\d{3}",  # NTU RGB+D: S001C002P003R002A013
    r"(?<![a-z])((?:person|subject|subj|actor|signer|user)[_-]?\d+)",  # KTH: person01_boxing_d1
)


def find_groups(paths: Sequence[str]) -> tuple[str, ...] | None:
    """The groups that file names carry, or ``None`` if not every name carries one of the same kind.

    The class is no part of a group: g03 of one class and g03 of another count as one, as in UCF101's own
    splits.

    >>> find_groups(["Archery/v_Archery_g03_c01.avi", "Biking/v_Biking_g12_c04.avi"])
    ('g03', 'g12')
    """
    for pattern in _GROUP_PATTERNS:
        found = []
        for path in paths:
            match = re.search(pattern, os.path.basename(path), re.IGNORECASE)  # noqa: PTH119 - lists are long
            if match is None:
                break
            found.append(match[1].lower())
        if found and len(found) == len(paths):
            return tuple(found)
    return None


def hold_out(
    labels: Sequence[int], *, share: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Hold out a share of the samples, drawn by class.

    Without groups every class gives ``round(share x its samples)``, at least one and never all (a class with
    one sample gives none). With groups whole groups are held out, so that classes come as near to the share
    as they can: the groups are dealt into folds (:func:`make_fold`) and some of the folds are held out.

    Args:
        labels: class of each sample.
        share: above 0, below 1.
        seed: of the draw.
        groups: group of each sample.

    Returns:
        Indices to train on and indices held out, both sorted.

    Raises:
        ConfigError: the share is not between 0 and 1; there is only one group, or only one sample a class.
    """
    if not 0 < share < 1:
        raise ConfigError(f"data.val_share={share}: must lie between 0 and 1, e.g. 0.2")
    if groups is not None:
        return _hold_out_groups(labels, groups, share=share, seed=seed)
    # RandomState's stream is frozen by numpy's policy; that of default_rng may change between versions.
    random = np.random.RandomState(seed)
    members_of: dict[int, Indices] = {}
    for index, label in enumerate(labels):
        members_of.setdefault(label, []).append(index)
    held: Indices = []
    for _, members in sorted(members_of.items()):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held += [members[place] for place in random.permutation(len(members))[:count]]
    if not held:
        raise ConfigError(
            "data.val_share: no class has two samples, so none can be held out: give more samples"
        )
    return _split_by(held, len(labels))


def make_fold(
    labels: Sequence[int], *, folds: int, fold: int, seed: int, groups: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Cross-validation: part ``fold`` of ``folds``, by class, a group always in one part.

    Args:
        labels: class of each sample.
        folds: number of parts.
        fold: the part that is held out, from 0.
        seed: of the draw.
        groups: group of each sample.

    Returns:
        Indices to train on and indices held out, both sorted. Over all folds every sample is held out once.

    Raises:
        ConfigError: fewer than two folds, ``fold`` out of range, more folds than groups or samples.
    """
    if folds < 2:
        raise ConfigError(f"data.folds={folds}: must be 2 or more")
    if not 0 <= fold < folds:
        raise ConfigError(f"data.fold={fold}: with {folds} folds it must be 0 to {folds - 1}")
    if groups is not None and folds > len(set(groups)):
        raise ConfigError(
            f"data.folds={folds}: more folds than groups ({len(set(groups))}): lower it, or set "
            "data.group_by=null to split by video"
        )
    # Imported late: it takes a second to load, and only groups and folds need it.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    largest = max(Counter(labels).values())
    if folds > largest:
        raise ConfigError(f"data.folds={folds}: no class has more than {largest} samples: lower it")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of classes with fewer samples than folds; describe_split says which class lacks samples.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        _, held = list(splitter.split(np.zeros(len(labels)), np.asarray(labels), groups))[fold]
    return _split_by(held.tolist(), len(labels))


def describe_split(train: Annotations, val: Annotations) -> tuple[str, ...]:
    """Notices: classes that one side lacks."""
    notices = []
    for side, annotations, meaning in (
        ("training", train, "the model cannot learn them"),
        ("validation", val, "its accuracy says nothing of them"),
    ):
        present = {label for sample in annotations.samples for label in sample.classes}
        absent = [name for label, name in enumerate(annotations.class_names) if label not in present]
        if absent:
            shown = ", ".join(absent[:10]) + (f", ... ({len(absent)} in all)" if len(absent) > 10 else "")
            notices.append(f"no {side} samples of {shown}: {meaning}")
    return tuple(notices)


def _hold_out_groups(
    labels: Sequence[int], groups: Sequence[str], *, share: float, seed: int
) -> tuple[Indices, Indices]:
    count = len(set(groups))
    if count < 2:
        raise ConfigError(
            f"data.val_share={share}: all samples belong to one group ({groups[0]}), so nothing can be held "
            "out: set data.group_by=null, or give data.val_source"
        )
    most = min(count, 20, max(Counter(labels).values()))
    nearest = Fraction(share).limit_denominator(max(2, most))
    parts = nearest if 0 < nearest < 1 else Fraction(1 if nearest == 0 else most - 1, max(2, most))
    held: Indices = []
    for fold in range(parts.numerator):
        held += make_fold(labels, folds=parts.denominator, fold=fold, seed=seed, groups=groups)[1]
    return _split_by(held, len(labels))


def _split_by(held: Sequence[int], count: int) -> tuple[Indices, Indices]:
    out = set(held)
    return [index for index in range(count) if index not in out], sorted(out)
