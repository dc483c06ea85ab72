"""What lies in the root of a dataset: its annotation files, and every video by its name.

People keep one dataset in many layouts: flat, by class, by part, as files or as folders of frames. A video's
own name stays the same in all of them, so videos are looked up by it, and folders only decide between two of
one name.
"""

import os
import re
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

from kinemix.data.annotations import PART_NAMES, Part
from kinemix.data.catalog.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_DOCUMENTS = frozenset({".txt", ".csv", ".tsv", ".json", ".lst"})
_DOCUMENT_FOLDERS = re.compile(
    r"anno|label|list|split|csv|json|meta|hacs_v|epic|kinetics|ssv|jester|diving", re.I
)
_FLOW_FOLDERS = frozenset({"flow", "tvl1", "optical_flow", "flow_x", "flow_y", "u", "v"})
_DEPTH = 6
_ALIKE = 3
"""Folders of frames in a row after which their neighbours are taken for such too, unopened."""


def simplify_name(name: str) -> str:
    """A class or folder name with nothing but its letters and digits, in lower case.

    >>> simplify_name("massaging_person's_head") == simplify_name("massaging person's head")
    True
    """
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def find_part(path: str) -> Part | None:
    """The part of a dataset that a path names in its folders or file name, the innermost first.

    >>> find_part("kinetics400/val_256/abseiling"), find_part("lists/sthv2_train_list.txt")
    ('val', 'train')
    """
    for name in reversed(path.split("/")):
        for word in re.split(r"[^a-z]+", name.lower()):
            if word in PART_NAMES:
                return PART_NAMES[word]
    return None


class RootFiles:
    """The files of a dataset.

    Args:
        path: its root.
        videos: where the videos are, if not below the root.
        class_names: folders of these names say what their videos show.
    """

    def __init__(self, path: Path, *, videos: Path | None = None, class_names: Collection[str] = ()) -> None:
        self.path, self.videos = path, videos or path
        self._classes = frozenset(map(simplify_name, class_names))

    @cached_property
    def documents(self) -> tuple[Path, ...]:
        """Text, CSV and JSON files of the root and of folders below it that are named like annotations."""
        return tuple(_list_documents(self.path, depth=2))

    def find(self, *patterns: str) -> Path | None:
        """The first document that a pattern matches as a whole, in lower case; earlier patterns go first."""
        return next((found for pattern in patterns for found in self.find_all(pattern)), None)

    def find_all(self, pattern: str) -> list[Path]:
        """All documents that the pattern matches, in order."""
        return [path for path in self.documents if re.fullmatch(pattern, path.name.lower())]

    @cached_property
    def library(self) -> dict[str, list[str]]:
        """Every video below the root by its name without suffix: paths of files and of folders of frames."""
        found: dict[str, list[str]] = {}
        for name, path in _walk(str(self.videos.absolute()), _DEPTH):
            found.setdefault(name, []).append(path)
        return found

    @cached_property
    def by_youtube_id(self) -> dict[str, list[str]]:
        """The same by the eleven characters that name a video of YouTube, which others may follow."""
        found: dict[str, list[str]] = {}
        for name, paths in self.library.items():
            found.setdefault(name.removeprefix("v_")[:11], []).extend(paths)
        return found

    def find_video(self, name: str, *, part: Part | None = None) -> str | None:
        """The path of a video.

        Args:
            name: its name without suffix, with its folder in front where it has one: ``wave/clip_3``.
            part: it stands in the folder of this part, where two have the same name.
        """
        folder, _, own = name.rpartition("/")
        paths = self.library.get(own, [])
        if folder and paths:
            paths = self._match_folder(paths, folder.rpartition("/")[2])
        if part is not None and len(paths) > 1:
            paths = [path for path in paths if find_part(self._place(path)) in (part, None)] or paths
        # Of a video and its frames, the frames: whoever extracted them wants them read.
        return min(paths, key=lambda path: (_is_video(path), path), default=None)

    def find_class(self, path: str) -> str | None:
        """The innermost folder of a video that is named like a class, simplified."""
        folders = reversed(self._place(path).split("/")[:-1])
        return next((name for name in map(simplify_name, folders) if name in self._classes), None)

    def _match_folder(self, paths: list[str], folder: str) -> list[str]:
        """Paths in that folder, or else in folders that are no other class."""
        wanted = simplify_name(folder)
        parents = {path: simplify_name(path.split("/")[-2]) for path in paths}
        inside = [path for path in paths if parents[path] == wanted]
        return inside or [path for path in paths if parents[path] not in self._classes]

    def _place(self, path: str) -> str:
        return os.path.relpath(path, self.videos.absolute())


def _list_documents(folder: Path, *, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as children:
            entries = sorted(children, key=lambda child: child.name)
    except OSError:  # a folder that may not be entered holds nothing for us
        return
    for child in entries:
        if os.path.splitext(child.name)[1].lower() in _DOCUMENTS and child.is_file():  # noqa: PTH122
            yield folder / child.name
    for child in entries:
        if depth and child.is_dir() and _DOCUMENT_FOLDERS.search(child.name):
            yield from _list_documents(folder / child.name, depth=depth - 1)


def _walk(folder: str, depth: int) -> Iterator[tuple[str, str]]:
    """Name and path of every video file and folder of frames."""
    try:
        with os.scandir(folder) as children:
            entries = sorted(children, key=lambda child: child.name)
    except OSError:
        return
    alike = 0
    for child in entries:
        if child.name.startswith("."):
            continue
        stem, suffix = os.path.splitext(child.name)  # noqa: PTH122
        if suffix.lower() in VIDEO_SUFFIXES and not child.is_dir():
            yield stem, child.path
        elif child.is_dir() and child.name.lower() not in _FLOW_FOLDERS:
            assumed = alike >= _ALIKE and any(character.isdigit() for character in child.name)
            if assumed or _holds_frames(child.path):
                alike += 1
                yield child.name, child.path
            elif depth:
                alike = 0
                yield from _walk(child.path, depth - 1)


def _holds_frames(folder: str) -> bool:
    try:
        with os.scandir(folder) as children:
            first = next((child.name for child in children if not child.name.startswith(".")), "")
    except OSError:
        return False
    return os.path.splitext(first)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122
