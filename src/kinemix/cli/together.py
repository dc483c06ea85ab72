"""A verb that several processes carry out together speaks with one voice."""

import os
import sys
from collections.abc import Callable

from kinemix.cli import USER_ERROR, fail
from kinemix.errors import KinemixError


def speak_once(run: Callable[[], int]) -> int:
    """Run a verb that torchrun, srun or kinemix itself may have started several times.

    What all processes have found out together is told by the first of them. Before they know of each other, one tells
    it on each machine, and behind that whoever it happened to.

    Args:
        run: the verb.

    Returns:
        Its exit code.
    """
    try:
        return run()
    except KinemixError as error:
        launch = sys.modules.get(
            "kinemix.engine.launch"
        )  # loads torch, which a mistyped option need not wait for
        if launch is None or not launch.has_started():
            if _number_on_machine() > 0:
                return USER_ERROR
            raise
        if not error.agreed:
            raise
        if launch.is_first_process():
            fail(error)
        launch.end_together(error)
        return USER_ERROR


def _number_on_machine() -> int:
    """Of this process among those that were started together, as torchrun, Lightning and srun number them."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
