"""How much memory a run holds: on its accelerator, or in its processes where it has none."""

import time
from collections.abc import Callable

import psutil
import torch

SHARE = 0.01
"""Of the time, at most, spent looking at processes: the system walks all their pages, some 50 ms for a large one."""


class MemoryMeter:
    """Reads the memory that this process of a run holds, with that of its loader processes where it is on the CPU.

    Args:
        device: that the network is on.
        clock: seconds.
    """

    def __init__(self, device: torch.device, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock = device, clock
        self._read_next, self._bytes = -float("inf"), 0
        self.total = None if device.type == "cpu" else torch.accelerator.get_memory_info(device)[1]

    def read(self) -> int:
        """Bytes held now; on the CPU as of a few seconds ago."""
        if self._device.type != "cpu":
            return torch.accelerator.memory_reserved(self._device)
        if (began := self._clock()) >= self._read_next:
            self._bytes = measure_processes()
            ended = self._clock()
            self._read_next = ended + max(1.0, (ended - began) / SHARE)
        return self._bytes

    def describe(self) -> str:
        """The same in words.

        >>> MemoryMeter(torch.device("cpu")).describe()  # doctest: +SKIP
        '1.2 GB'
        """
        total = "" if self.total is None else f" of {self.total / 1e9:.1f}"
        return f"{self.read() / 1e9:.1f}{total} GB"


def measure_processes() -> int:
    """Bytes that this process and all that it has started hold; what several share counts once, where that is known."""
    this = psutil.Process()
    held = 0
    for process in (this, *this.children(recursive=True)):
        try:
            memory = process.memory_full_info()
        except psutil.Error:  # it has ended meanwhile, or is not ours to look into
            continue
        # Forked processes share most of their pages. Linux divides those by the number of their holders (PSS).
        held += getattr(memory, "pss", memory.rss)
    return held
