"""Several networks as one: their scores of the same samples, averaged with weights.

Members may have been trained on different numbers of frames (GSM, Table 4), look at different streams (two-stream
fusion), or come from other code; all that is needed is a file of scores of each. Samples are matched by name and
classes by name, and what does not match is counted and refused, never dropped in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kinemix.errors import ConfigError, DataError
from kinemix.evaluate.compare import is_right
from kinemix.evaluate.foreign_scores import names_classes, names_samples
from kinemix.evaluate.scores import Scores

Match: TypeAlias = Literal["id", "stem", "order"]
Average: TypeAlias = Literal["logits", "probabilities"]


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Scores of the same samples and classes in the same order, and what the user should know about it."""

    members: tuple[Scores, ...]
    notices: tuple[str, ...]


def split_tasks(
    members: Sequence[Scores], names: Sequence[str], *, task: str | None = None
) -> dict[str, tuple[Scores, ...]]:
    """The members' scores of each task that all of them answer; of one question by the name "".

    Args:
        members: one or more.
        names: of the members, for messages.
        task: take this one alone; members that answer one question only are taken to answer this one.

    Raises:
        DataError: members answer different tasks and none is named; none has that task; any number of labels.
    """
    if task is not None:
        several = any(member.space.tasks for member in members)
        taken = (one.take_question(task if one.space.tasks or not several else None) for one in members)
        return {task: tuple(taken)}
    asked = [tuple(member.space.tasks) for member in members]
    for name, tasks in zip(names, asked, strict=True):
        if set(tasks) != set(asked[0]):
            told = [", ".join(one) or "one question" for one in (tasks, asked[0])]
            raise DataError(
                f"{name} answers {told[0]}, {names[0]} answers {told[1]}: --task NAME takes one of several"
            )
    if not asked[0]:
        return {"": tuple(member.take_question() for member in members)}
    return {one: tuple(member.take_task(one) for member in members) for one in asked[0]}


def align_scores(
    members: Sequence[Scores], names: Sequence[str], *, match: Match = "id", allow_missing: bool = False
) -> Aligned:
    """The members' scores with rows and columns in the first one's order.

    Args:
        members: one or more.
        names: of the members, for messages.
        match: what tells that two rows are the same sample: ``id`` its name; ``stem`` its file name without folders
            and suffix; ``order`` its row (then all labels must agree).
        allow_missing: go on with the samples that all members have; otherwise one that some member lacks is an error.

    Raises:
        DataError: samples, labels or classes do not match.
    """
    notices: list[str] = []
    matched = [
        _match_classes(member, members[0], name, names[0], notices)
        for member, name in zip(members, names, strict=True)
    ]
    keys = [_list_keys(member, name, match) for member, name in zip(matched, names, strict=True)]
    if match != "order" and len(members) > 1 and not all(map(names_samples, members)):
        unnamed = next(name for member, name in zip(members, names, strict=True) if not names_samples(member))
        raise DataError(
            f"{unnamed}: its samples have no names: match them by --match order if all files have one order"
        )
    common = set(keys[0]).intersection(*keys[1:])
    for name, own in zip(names, keys, strict=True):
        _check_missing(name, own, keys, names, allow_missing, match)
        if len(own) > len(common):
            notices.append(
                f"{name}: {len(own) - len(common)} of {len(own)} samples are not in all files: left out"
            )
    order = [key for key in keys[0] if key in common]
    if not order:
        raise DataError(f"{', '.join(names)}: no sample is in all of them: try --match stem or --match order")
    rows = [[own[key] for key in order] for own in keys]
    aligned = [take_samples(member, part) for member, part in zip(matched, rows, strict=True)]
    for member, name in zip(aligned[1:], names[1:], strict=True):
        _check_labels(aligned[0], member, names[0], name)
    return Aligned(members=tuple(replace(m, ids=aligned[0].ids) for m in aligned), notices=tuple(notices))


def take_samples(scores: Scores, rows: Sequence[int]) -> Scores:
    """The scores of some samples, in that order."""
    taken = list(rows)
    return replace(
        scores,
        ids=tuple(scores.ids[row] for row in taken),
        indices=scores.indices[taken],
        logits=scores.logits[taken],
        labels=scores.labels[taken],
        view_logits=None if scores.view_logits is None else scores.view_logits[taken],
        uids=tuple(scores.uids[row] for row in taken) if scores.uids else (),
    )


def average_scores(
    members: Sequence[Scores], *, weights: Sequence[float] | None = None, average: Average = "logits"
) -> Scores:
    """One network's scores from several: the weighted mean of their logits, or of their probabilities.

    Args:
        members: aligned.
        weights: one a member, none negative; by default equal. Only their proportions matter.
        average: ``logits`` as the files have them; ``probabilities`` after a softmax (scores that are probabilities
            already stay as they are), of whose mean the logarithm is kept.

    Raises:
        ConfigError: weights that do not fit.
    """
    weights = check_weights(weights, len(members))
    mean = sum(w * _prepare(m, average) for w, m in zip(weights, members, strict=True)) / sum(weights)
    if average == "probabilities":
        with np.errstate(divide="ignore"):
            mean = np.log(mean)
    return replace(
        members[0],
        logits=np.asarray(mean, np.float32),
        protocol=None,
        model={
            "name": "ensemble",
            "average": average,
            "members": [
                {"weight": w, "model": m.model, "views": m.describe_protocol()}
                for w, m in zip(weights, members, strict=True)
            ],
        },
        unreadable=tuple(sorted({entry for member in members for entry in member.unreadable})),
        view_logits=None,
    )


def check_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """One weight a member; equal ones by default.

    Raises:
        ConfigError: another number of them, a negative or infinite one, or nothing but zeros.
    """
    if weights is None:
        return (1.0,) * count
    if len(weights) != count:
        raise ConfigError(f"{len(weights)} weights for {count} members: give one for each")
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ConfigError(f"weights are {list(weights)}: they must be 0 or more, and one above 0")
    return tuple(float(weight) for weight in weights)


def search_weights(
    members: Sequence[Scores], *, average: Average = "logits", rounds_per_member: int = 20
) -> tuple[float, ...]:
    """Weights that serve these samples best, to be used on others.

    Greedy selection with replacement (Caruana et al., "Ensemble selection from libraries of models", ICML 2004): in
    every round the member whose addition gives the highest top-1 joins the sum once more; the round with the highest
    top-1 of all gives the weights. Equal weights stay where the search finds nothing better. Of equals, the member
    that has been chosen least joins, so that nothing depends on the order of the members more than it must.

    Args:
        members: aligned scores of samples that are not tested afterwards.
        average: as the ensemble will be averaged.
        rounds_per_member: rounds of the search, for each member; with it, weights grow finer.

    Returns:
        One weight a member; they sum to 1.
    """
    prepared = [_prepare(member, average) for member in members]
    labels = members[0].labels
    chosen = np.zeros(len(members), int)
    total = np.zeros_like(prepared[0])
    best, best_weights = _top1(sum(prepared, total), labels), np.ones(len(members))
    for _ in range(rounds_per_member * len(members)):
        gains = [_top1(total + one, labels) for one in prepared]
        pick = min(range(len(members)), key=lambda i: (-gains[i], chosen[i], i))
        chosen[pick] += 1
        total = total + prepared[pick]
        if gains[pick] > best:
            best, best_weights = gains[pick], chosen.astype(float)
    return tuple((best_weights / best_weights.sum()).tolist())


def leave_out_tested(
    search: Sequence[Scores], tested: Sequence[Scores], *, match: Match = "id"
) -> tuple[tuple[Scores, ...], int]:
    """The samples of a search that are not tested, so that no tested sample chooses a weight.

    Args:
        search: aligned scores to search weights on.
        tested: aligned scores that will be reported.
        match: as in :func:`align_scores`; rows say nothing about another file, so ``order`` compares names.

    Returns:
        The scores that are left, and how many samples were left out.

    Raises:
        DataError: no sample is left, or the files do not name their samples and cannot be told apart.
    """
    if not (names_samples(search[0]) and names_samples(tested[0])):
        if np.array_equal(search[0].labels, tested[0].labels):
            raise DataError(
                "--search_on has the labels of the tested samples, and no names: give scores of another split"
            )
        return tuple(search), 0
    known = {_name_key(name, match) for name in tested[0].ids}
    rows = [row for row, name in enumerate(search[0].ids) if _name_key(name, match) not in known]
    if not rows:
        raise DataError("every sample of --search_on is tested too: weights must be chosen on other samples")
    return tuple(take_samples(member, rows) for member in search), len(search[0].ids) - len(rows)


def are_probabilities(scores: Scores) -> bool:
    """Whether every row is a distribution over the classes."""
    return bool((scores.logits >= 0).all() and np.allclose(scores.logits.sum(axis=1), 1, atol=1e-3))


def to_probabilities(scores: Scores) -> NDArray[np.float64]:
    """``N K``: the softmax of the logits; scores that are probabilities already stay as they are."""
    logits = scores.logits.astype(np.float64)
    if are_probabilities(scores):
        return logits
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def find_best(members: Sequence[Scores]) -> int:
    """Which member has the highest top-1; of equals the first."""
    return int(np.argmax([is_right(member).mean() for member in members]))


def _prepare(scores: Scores, average: Average) -> NDArray[np.float64]:
    return scores.logits.astype(np.float64) if average == "logits" else to_probabilities(scores)


def _top1(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _match_classes(member: Scores, first: Scores, name: str, first_name: str, notices: list[str]) -> Scores:
    """The member with its classes in the first one's order."""
    if member.class_names == first.class_names:
        return member
    if len(member.class_names) != len(first.class_names):
        raise DataError(
            f"{name} has {len(member.class_names)} classes, {first_name} has {len(first.class_names)}: "
            "give results of the same question"
        )
    if not (names_classes(member) and names_classes(first)):
        notices.append(
            f"{name} or {first_name} does not name its classes: their orders are taken to be the same"
        )
        return replace(member, space=first.space)
    missing = sorted(set(first.class_names) - set(member.class_names))
    if missing:
        raise DataError(
            f"{name} has no class {missing[0]!r} ({len(missing)} of {first_name}'s are missing): "
            "give results of the same question"
        )
    place = {class_name: k for k, class_name in enumerate(member.class_names)}
    columns = [place[class_name] for class_name in first.class_names]
    number = {column: k for k, column in enumerate(columns)}
    return replace(
        member,
        space=first.space,
        logits=member.logits[:, columns],
        labels=np.array([number[int(label)] for label in member.labels], np.int64),
        view_logits=None if member.view_logits is None else member.view_logits[:, :, columns],
    )


def _list_keys(scores: Scores, name: str, match: Match) -> dict[str, int]:
    """What stands for each sample, and its row."""
    if match == "order":
        return {str(row): row for row in range(len(scores.ids))}
    keys = [_name_key(sample, match) for sample in scores.ids]
    rows = {key: row for row, key in enumerate(keys)}
    if len(rows) < len(keys):
        twice = next(key for row, key in enumerate(keys) if rows[key] != row)
        raise DataError(f"{name}: sample {twice!r} is there twice: its scores cannot be matched by {match}")
    return rows


def _name_key(name: str, match: Match) -> str:
    return PurePath(name).stem if match == "stem" else name


def _check_missing(
    name: str,
    own: dict[str, int],
    keys: Sequence[dict[str, int]],
    names: Sequence[str],
    allow: bool,
    match: Match,
) -> None:
    for other_name, other in zip(names, keys, strict=True):
        lacking = [key for key in other if key not in own]
        if lacking and (match == "order" or not allow):
            cure = (
                ""
                if match == "order"
                else "; --allow_missing goes on with the others, --match tells how names differ"
            )
            raise DataError(
                f"{name} lacks {len(lacking)} of the {len(other)} samples of {other_name}, "
                f"the first {lacking[0]!r}{cure}"
            )


def _check_labels(first: Scores, member: Scores, first_name: str, name: str) -> None:
    wrong = np.flatnonzero(first.labels != member.labels)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{name} and {first_name} disagree about {len(wrong)} labels, the first of {first.ids[row]!r}: "
            f"{member.labels[row]} and {first.labels[row]}; these are not the same samples, or classes in another order"
        )
