"""The file that the action recognition challenge of EPIC-Kitchens-55 takes, from the scores of a test list.

::

    {"version": "0.1", "challenge": "action_recognition",
     "results": {"1924": {"verb": {"0": 1.2, ..., "124": 0.1}, "noun": {"0": 0.8, ..., "351": 0.2},
                          "action": {"0,1": 1.1, ...}}, ...}}

There is one entry for every segment of the list, by its uid, and in it the score of every verb and noun and of the 100
best actions, each named by the numbers of its verb and its noun. The server wants every segment and any scores that
rank: these are the logits. Two such files, of S1 (``seen.json``) and of S2 (``unseen.json``), go into one archive.

Source: the submission format in the challenge's starter kit (epic-kitchens-55-starter-kit-action-recognition).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinemix.atomic import write_atomically
from kinemix.data.catalog.epic_kitchens import EpicKitchens55, list_actions
from kinemix.errors import DataError
from kinemix.evaluate.scores import Scores
from kinemix.label_space import LabelSpace

BEST_ACTIONS = 100
"""Actions that an entry names, exactly."""

_DIGITS = 6
"""Behind the point: what a logit in single precision has."""


def check_space(space: LabelSpace) -> None:
    """Raise a :class:`DataError` unless there are scores of every verb and every noun of EPIC-Kitchens-55."""
    if not {"verb", "noun"} <= space.tasks.keys():
        raise DataError(
            f"a submission ranks verbs and nouns, and this run answers {', '.join(space.tasks) or 'one question'}: "
            "train it on EPIC-Kitchens-55 with --data.task all"
        )
    for task in space.tasks:
        if space.pick(task).class_names != EpicKitchens55.class_names(task=task):
            raise DataError(
                f"a submission is of EPIC-Kitchens-55, and its {task}s are not the classes of this run"
            )


def write_submission(scores: Scores, path: Path) -> None:
    """Write the challenge's file.

    Args:
        scores: of a test list of EPIC-Kitchens-55.
        path: of the file.

    Raises:
        DataError: as :func:`check_space`; a segment could not be read; the samples have no uids.
    """
    check_space(scores.space)
    if scores.unreadable:
        video, reason = scores.unreadable[0]
        raise DataError(
            f"{path}: a submission answers every segment, and {len(scores.unreadable)} could not be read, the first "
            f"{video} ({reason}): get those videos anew"
        )
    if not scores.uids or len(set(scores.uids)) < len(scores.uids):
        raise DataError(
            f"{path}: a submission names segments by their uid, and these have none: test EPIC-Kitchens-55 itself"
        )
    tasks = {task: scores.take_task(task).logits for task in scores.space.tasks}
    results = {
        uid: {task: _list_scores(task, logits[row]) for task, logits in tasks.items()}
        for row, uid in enumerate(scores.uids)
    }
    content = {"version": "0.1", "challenge": "action_recognition", "results": results}
    write_atomically(path, lambda partial: partial.write_text(json.dumps(content), encoding="utf-8"))


def _list_scores(task: str, logits: NDArray[np.float32]) -> dict[str, Any]:
    if task == "action":
        best = np.argsort(-logits, kind="stable")[:BEST_ACTIONS]
        pairs = list_actions()
        return {"{},{}".format(*pairs[k]): round(float(logits[k]), _DIGITS) for k in best}
    return {str(k): round(float(logit), _DIGITS) for k, logit in enumerate(logits)}
