"""Arrays by name in one compressed ``.npz`` file, whole or absent."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kinemix.atomic import write_atomically


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """What ``numpy.load`` reads back."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # given a path, numpy would append its own ending
            np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]

    write_atomically(path, write, durable=False)
