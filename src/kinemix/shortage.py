"""Memory that does not suffice: torch's several ways of saying so, in one line with the cure."""

import re
import shutil
from pathlib import Path

_SHARED = Path("/dev/shm")
"""Where Linux keeps what processes share; a container has 64 MB there unless it is given more."""


_UNSHARED = re.compile(r"</torch_.*(No space left|Cannot allocate)")
"""Of torch's errors about a file that processes share; Triton has a "shared memory" too, which is the GPU's."""


def explain_shortage(error: BaseException) -> str | None:
    """What a user can do where an error means that memory ran out; ``None`` if it means something else."""
    text = str(error)
    if _UNSHARED.search(text):
        return describe_shared_shortage(None)
    # By name, so that telling of an error costs no import of torch.
    names = {kind.__name__ for kind in type(error).__mro__}
    if not names & {"MemoryError", "OutOfMemoryError"} and not re.search(
        r"DefaultCPUAllocator|OutOfMemoryError|CUDA out of memory", text
    ):
        return None
    asked = re.search(r"tried to allocate ([\d.]+ ?\w+)", text, re.IGNORECASE)
    where = "the GPU's memory" if "OutOfMemoryError" in names or "CUDA" in text else "memory"
    return (
        f"{where} does not suffice{f' ({asked[1]} more were asked for)' if asked else ''}: lower the batch size, size "
        "or protocol.num_frames; a training also has optim.accumulate (the same step from smaller batches), "
        "machine.recompute and machine.precision"
    )


def describe_shared_shortage(num_bytes: int | None) -> str:
    """The same where processes cannot share a batch.

    Args:
        num_bytes: of the batch, if known.
    """
    needed = "" if num_bytes is None else f" of {_format_size(num_bytes)}"
    left = f": {_SHARED} has {_format_size(shutil.disk_usage(_SHARED).free)} left" if _SHARED.is_dir() else ""
    return (
        f"no shared memory for a batch{needed}{left}; give the container more (docker run --shm-size=8g, or a volume "
        "mounted there), or lower the number of workers, the batch size or size; 0 workers share nothing"
    )


def _format_size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.0f} MB"
