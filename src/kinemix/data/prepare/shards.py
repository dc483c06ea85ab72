"""The clips of a shard, put together: a piece a clip, and a shard is its pieces one after the other.

A piece is the clip's members as they stand in the tar, so that concatenating pieces and closing the tar makes a
shard. Nothing in it depends on when, where or by whom it was made.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinemix.atomic import write_atomically
from kinemix.data._shard import INDEX_SUFFIX, ROW, SHARD_SUFFIX
from kinemix.data.prepare.encode import EncodedClip

_BLOCK = 512


def name_shard(number: int) -> str:
    """File name of a shard."""
    return f"{number:06d}{SHARD_SUFFIX}"


def make_piece(
    key: str, clip: EncodedClip, *, micros: list[int], facts: Mapping[str, Any]
) -> tuple[bytes, NDArray[np.void]]:
    """A clip as a piece of a tar, and its rows of the index with offsets within the piece.

    Args:
        key: of the sample; no dot in it.
        clip: encoded.
        micros: when each frame is shown.
        facts: kept beside it as JSON, for readers of WebDataset.
    """
    out = io.BytesIO()
    _add(out, f"{key}.json", json.dumps(facts, ensure_ascii=False, sort_keys=True).encode())
    starts = [_add(out, f"{key}.{ending}", data) for ending, data in clip.files]
    rows = np.zeros(1 + len(clip.frames), dtype=ROW)
    file, offset, size = clip.head
    rows[0] = (starts[file] + offset, clip.height * 2**16 + clip.width, size, clip.code)
    for number, (file, offset, size, back) in enumerate(clip.frames, start=1):
        rows[number] = (starts[file] + offset, micros[number - 1], size, back)
    return out.getvalue(), rows


def _add(out: io.BytesIO, name: str, data: bytes) -> int:
    """Append a member; where its content starts."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    out.write(member.tobuf(tarfile.USTAR_FORMAT))
    start = out.tell()
    out.write(data)
    out.write(bytes(-len(data) % _BLOCK))
    return start


def write_shard(folder: Path, number: int, pieces: Iterable[tuple[Path, Path]]) -> dict[str, str | int]:
    """Put pieces together, whole or not at all.

    Args:
        folder: of the shards.
        number: of this one.
        pieces: files of each clip's piece and rows, in order.

    Returns:
        Name, sizes and digests of the shard and its index.
    """
    index: list[NDArray[np.void]] = []
    digest = hashlib.sha256()
    size = 0

    def fill(path: Path) -> None:
        nonlocal size
        with path.open("wb") as shard:
            for piece, rows_path in pieces:
                rows = np.fromfile(rows_path, dtype=ROW)
                rows["offset"] += size
                index.append(rows)
                size += _append(shard, piece.read_bytes(), digest)
            size += _append(shard, bytes(2 * _BLOCK), digest)  # the end of a tar

    shard = folder / name_shard(number)
    write_atomically(shard, fill)
    table = np.concatenate([*index, np.zeros(0, dtype=ROW)]).tobytes()
    write_atomically(shard.with_suffix(INDEX_SUFFIX), lambda path: path.write_bytes(table))
    return {
        "name": shard.name,
        "bytes": size,
        "sha256": digest.hexdigest(),
        "index_bytes": len(table),
        "index_sha256": hashlib.sha256(table).hexdigest(),
    }


def _append(file: Any, data: bytes, digest: Any) -> int:
    file.write(data)
    digest.update(data)
    return len(data)


def check_shard(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a shard and its index are there as they were written, byte for byte."""
    shard = folder / str(facts["name"])
    for path, kind in ((shard, ""), (shard.with_suffix(INDEX_SUFFIX), "index_")):
        try:
            if path.stat().st_size != facts[f"{kind}bytes"]:
                return False
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != facts[f"{kind}sha256"]:
                    return False
        except OSError:
            return False
    return True
