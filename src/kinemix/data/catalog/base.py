"""What a dataset on the shelf must say: whether a path is it, and which videos it holds."""

from pathlib import Path
from typing import ClassVar

from kinemix.data.annotations import Listing

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"),
        *(".avi", ".divx", ".wmv", ".asf", ".flv", ".rm", ".rmvb"),
        *(".mkv", ".webm", ".ogv", ".ogg", ".mxf", ".nut", ".y4m", ".dv"),
        *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mp2v", ".vob", ".ts", ".mts", ".m2ts"),
        *(".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu", ".mjpg", ".mjpeg", ".gif"),
    }
)
"""File name endings of videos, in lower case."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""File name endings of frames, in lower case."""


class Dataset:
    """A kind of dataset: one subclass in one file of this package, found by its ``name``.

    Nothing is ever instantiated; a dataset is two functions and a name.
    """

    name: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()
    """Further options of :class:`kinemix.config.DataConfig` that its ``list_videos`` knows, as keywords."""
    has_paths: ClassVar[bool] = True
    """Whether a ``root`` means anything: not where the videos are found in the dataset itself."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether ``path`` looks like this dataset."""
        raise NotImplementedError

    @staticmethod
    def list_videos(path: Path, *, root: str | None, group_by: str | None) -> Listing:
        """Everything in it, labels and parts as they are written.

        Args:
            path: folder or file.
            root: folder that relative paths start from.
            group_by: column that holds the groups; ``auto`` for a usual one if there is one.

        Raises:
            DataError: it cannot be read, or holds nothing.
        """
        raise NotImplementedError
