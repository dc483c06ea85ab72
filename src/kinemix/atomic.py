"""A file is either the old one or the whole new one, whenever the power fails or the disk is full."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in its place in one step.

    Args:
        path: the file to make or replace; its folder must exist.
        write: called with the temporary file's path.
        durable: wait until it is on the disk; off for what can be made again, and for many small files.

    Raises:
        OSError: whatever ``write`` raises; the file at ``path`` is then untouched and nothing is left over.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        write(partial)
        if durable:
            flush_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk and not only in memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
