"""A folder with one folder a class, optionally below train, val and test.

::

    gestures/left/a.mp4               class left
    gestures/train/left/a.mp4         class left, part train
    gestures/left/session 1/a.mp4     class left: folders below a class only sort its videos
    gestures/left/a/00001.jpg         class left, a video kept as a folder of frames

Everything else is ignored and counted. Symbolic links are followed.
"""

import os
from collections import Counter
from pathlib import Path

from kinemix.data.annotations import PART_NAMES, Entry, Listing, Part
from kinemix.data.catalog.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Dataset
from kinemix.errors import DataError

_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


class ClassFolders(Dataset):
    """One folder a class."""

    name = "folder"
    has_paths = False

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_dir()

    @staticmethod
    def list_videos(path: Path, *, root: str | None, group_by: str | None) -> Listing:
        """See :meth:`Dataset.list_videos`; ``root`` has no meaning here.

        Raises:
            DataError: no class folders or no videos in them; images that lie directly in a class folder;
                ``group_by`` names a column.
        """
        if group_by not in (None, "auto", "name"):
            raise DataError(
                f"{path}: data.group_by={group_by!r} is a column, and a folder has none: use 'name', or give "
                "a list file"
            )
        ignored: Counter[str] = Counter()
        entries: list[Entry] = []
        declared: list[str] = []
        for part, folder in _find_parts(path, ignored):
            for class_folder in _list_folders(folder, ignored, within_classes=False):
                declared.append(class_folder.name)
                entries += _list_class(class_folder, part, ignored)
        if not declared:
            raise DataError(
                f"{path}: no class folders in it{_describe(ignored)}: put the videos of each class into a "
                "folder named after it, or give a list file"
            )
        if not entries:
            raise DataError(
                f"{path}: no videos in its {len(set(declared))} class folders{_describe(ignored)}: videos "
                "end in .mp4, .avi, .mkv, .webm and the like, or are folders of .jpg frames"
            )
        notices = (f"{path}:{_describe(ignored)[1:]}",) if ignored else ()
        return Listing(str(path), tuple(entries), tuple(dict.fromkeys(declared)), notices)


def _find_parts(path: Path, ignored: Counter[str]) -> list[tuple[Part | None, Path]]:
    """The folders that hold class folders: ``path`` itself, or its train, val and test.

    A class may well be called "train" (or "test"): such folders are parts only if there is nothing else
    beside them, or two different ones.
    """
    folders = _list_folders(path, Counter(), within_classes=False)
    named = [
        (PART_NAMES[folder.name.lower()], folder) for folder in folders if folder.name.lower() in PART_NAMES
    ]
    parts = {part for part, _ in named}
    if not named or (len(named) < len(folders) and len(parts) < 2):
        return [(None, path)]
    for folder in folders:
        if folder.name.lower() not in PART_NAMES:
            ignored[f"folder {folder.name} beside {named[0][1].name}"] += 1
    return [(part, folder) for part, folder in named]


def _list_folders(folder: Path, ignored: Counter[str], *, within_classes: bool) -> list[Path]:
    """Sorted subfolders; files beside them are counted as ignored."""
    found = []
    for child in sorted(folder.iterdir(), key=lambda child: child.name):
        if child.is_dir():
            if not _is_hidden(child.name):
                found.append(child)
        elif child.suffix.lower() in VIDEO_SUFFIXES and not _is_hidden(child.name):
            ignored["video outside any class folder"] += 1
        else:
            _count_junk(child.name, ignored)
    return found


def _list_class(class_folder: Path, part: Part | None, ignored: Counter[str]) -> list[Entry]:
    """All videos and folders of frames anywhere below one class folder, sorted."""
    found: list[str] = []
    images: Counter[str] = Counter()
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(class_folder, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        resolved = os.path.realpath(folder)
        if resolved in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(resolved)
        videos = [name for name in sorted(files) if _has_suffix(name, VIDEO_SUFFIXES)]
        frames = [name for name in files if _has_suffix(name, IMAGE_SUFFIXES)]
        if frames and not videos and not subfolders:
            found.append(folder)
            images[folder] = len(frames)
            files = [name for name in files if name not in set(frames)]
        found += [os.path.join(folder, name) for name in videos]  # noqa: PTH118
        for name in set(files).difference(videos):
            _count_junk(name, ignored)
    if images and str(class_folder) in images:
        raise DataError(
            f"{class_folder}: {images[str(class_folder)]} images lie directly in this class folder: give the "
            "frames of each video a folder of their own, as in class/video/00001.jpg"
        )
    return [
        Entry(str(Path(video).absolute()), class_folder.name, place=video, part=part)
        for video in sorted(found)
    ]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    return not _is_hidden(name) and os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122


def _count_junk(name: str, ignored: Counter[str]) -> None:
    if not _is_hidden(name):
        ignored[f"{Path(name).suffix.lower() or 'no suffix'} file"] += 1


def _describe(ignored: Counter[str]) -> str:
    if not ignored:
        return ""
    return "; ignored " + ", ".join(f"{count} x {what}" for what, count in sorted(ignored.items()))
