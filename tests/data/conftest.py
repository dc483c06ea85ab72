"""Small real videos whose frames can be told apart, and a reader of frames in memory."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from kinemix.data.miniature import Studio, open_studio


class MemoryReader:
    """Frames that are already there, with a reader's interface; it notes what was read."""

    def __init__(self, frames: Tensor) -> None:
        self.frames, self.num_frames = frames, len(frames)
        self.asked: list[list[int]] = []

    def read(self, indices: Sequence[int]) -> Tensor:
        self.asked.append(list(indices))
        return self.frames[list(indices)]

    def close(self) -> None: ...

    def __enter__(self) -> "MemoryReader":
        return self

    def __exit__(self, *exception: object) -> None: ...


@pytest.fixture
def memory_reader() -> type[MemoryReader]:
    return MemoryReader


def _write_video(
    path: Path, *, num_frames: int = 12, size: tuple[int, int] = (24, 32), seed: int = 0
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    still = random.integers(0, 128, (*size, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for index in range(num_frames):
            picture = (still + 8 * index).clip(0, 255).astype(np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0"))
            )
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """``write_video(path, num_frames=12, size=(24, 32), seed=0)``: lossless; frame i is 8 i brighter."""
    return _write_video


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return open_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="session")
def official() -> Path:
    """The official annotation files, where there are any."""
    folder = os.environ.get("KINEMIX_ANNOTATIONS")
    if not folder:
        pytest.skip("KINEMIX_ANNOTATIONS is not set: no official annotation files")
    return Path(folder)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
