"""Miniature roots of the published datasets, as people have them on disk: real videos, official file formats.

They serve where code has to run and accuracy does not matter: tests, and the trying out of recipes. Every builder
makes a root and says what must be read from it: name of the video (as :attr:`Sample.name` ends), class, part.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import av
import numpy as np
from PIL import Image

Expected = dict[str, tuple[str, str]]
"""Class and part by the end of a sample's name."""

SHORT_FRAMES, LONG_FRAMES, FRAME_RATE = 24, 240, 30


@dataclass
class Studio:
    """Makes videos by linking to a few that are encoded once."""

    clip: Path
    long: Path
    pictures: list[Path] = field(default_factory=list)

    def put_clip(self, path: Path) -> Path:
        return _link(self.clip, path)

    def put_long(self, path: Path) -> Path:
        return _link(self.long, path)

    def put_frames(
        self, folder: Path, *, template: str = "{:05d}.jpg", count: int = 6, first: int = 1
    ) -> Path:
        for number in range(count):
            _link(self.pictures[number % len(self.pictures)], folder / template.format(first + number))
        return folder


def open_studio(folder: Path) -> Studio:
    pictures = []
    for number in range(8):
        picture = folder / f"{number}.jpg"
        Image.fromarray(np.full((24, 32, 3), 20 * number, np.uint8)).save(picture)
        pictures.append(picture)
    clip = encode(folder / "clip.mp4", num_frames=SHORT_FRAMES)
    return Studio(clip, encode(folder / "long.mp4", num_frames=LONG_FRAMES), pictures)


def encode(path: Path, *, num_frames: int, codec: str = "libx264", rate: int = FRAME_RATE) -> Path:
    """A video whose frames are told apart by where a bar stands; key frames every 24, B-frames between."""
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate))
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 24
        if codec == "libx264":
            stream.max_b_frames = 3
            stream.options = {"crf": "10", "bf": "3", "sc_threshold": "0"}
        for index in range(num_frames):
            picture = np.full((48, 64, 3), 40, np.uint8)
            picture[:, index % 64] = 255
            picture[index % 48] = 160
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _link(source: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(header), *rows])


PULL, PUSH = "Pulling something from left to right", "Pushing something from right to left"


def build_something_v1(root: Path, studio: Studio) -> Expected:
    for part, videos in (("train", {"1": PULL, "2": PUSH}), ("validation", {"30": PUSH})):
        write(root / f"something-something-v1-{part}.csv", "".join(f"{v};{c}\n" for v, c in videos.items()))
        for video in videos:
            studio.put_frames(root / "20bn-something-something-v1" / video)
    write(root / "something-something-v1-test.csv", "77\n78\n")
    return {"v1/1": (PULL, "train"), "v1/2": (PUSH, "train"), "v1/30": (PUSH, "val")}


def build_something_v2(root: Path, studio: Studio) -> Expected:
    template = {
        PULL: "Pulling [something] from left to right",
        PUSH: "Pushing [something] from right to left",
    }
    for part, videos in (("train", {"78687": PULL, "42326": PUSH}), ("validation", {"74225": PUSH})):
        content = [
            {"id": video, "label": "pulling a cup", "template": template[name], "placeholders": ["a cup"]}
            for video, name in videos.items()
        ]
        write(root / "labels" / f"{part}.json", json.dumps(content))
        for video in videos:
            studio.put_clip(root / "20bn-something-something-v2" / f"{video}.webm")
    write(root / "labels" / "test.json", json.dumps([{"id": "1420"}]))
    write(root / "labels" / "labels.json", json.dumps({PULL: "86", PUSH: "94"}))
    return {"/78687.webm": (PULL, "train"), "/42326.webm": (PUSH, "train"), "/74225.webm": (PUSH, "val")}


def build_jester(root: Path, studio: Studio) -> Expected:
    write(root / "jester-v1-labels.csv", "Swiping Left\nSwiping Right\n")
    write(root / "jester-v1-train.csv", "34870;Drumming Fingers\n56557;Turning Hand Clockwise\n")
    write(root / "jester-v1-validation.csv", "9223;Thumb Up\n")
    for video in ("34870", "56557", "9223"):
        studio.put_frames(root / "20bn-jester-v1" / video)
    return {
        "/34870": ("Drumming Fingers", "train"),
        "/56557": ("Turning Hand Clockwise", "train"),
        "/9223": ("Thumb Up", "val"),
    }


def _build_kinetics(root: Path, studio: Studio, number: str) -> Expected:
    header = ("label", "youtube_id", "time_start", "time_end", "split")
    train = [("air drumming", "-1IlTIWPNs4", 44, 54, "train"), ("archery", "abcdefghijk", 3, 13, "train")]
    _write_csv(root / f"kinetics-{number}_train.csv", header, train)
    _write_csv(root / f"kinetics-{number}_val.csv", header, [("archery", "0wR5jVB-WPk", 417, 427, "val")])
    studio.put_clip(root / "train" / "air_drumming" / "-1IlTIWPNs4_000044_000054.mp4")
    studio.put_clip(root / "train" / "archery" / "abcdefghijk.mp4")
    studio.put_clip(root / "val" / "archery" / "0wR5jVB-WPk_000417_000427.mp4")
    return {
        "/-1IlTIWPNs4_000044_000054.mp4": ("air drumming", "train"),
        "/abcdefghijk.mp4": ("archery", "train"),
        "/0wR5jVB-WPk_000417_000427.mp4": ("archery", "val"),
    }


def build_kinetics400(root: Path, studio: Studio) -> Expected:
    return _build_kinetics(root, studio, "400")


def build_kinetics600(root: Path, studio: Studio) -> Expected:
    return _build_kinetics(root, studio, "600")


def build_kinetics700(root: Path, studio: Studio) -> Expected:
    return _build_kinetics(root, studio, "700")


def build_mini_kinetics(root: Path, studio: Studio) -> Expected:
    """The lists name ids; the classes are Kinetics-400's folders."""
    write(root / "train_ytid_list.txt", "kIRmvrmc2nM\n2B65vtRd5Ck\n")
    write(root / "val_ytid_list.txt", "zkyy5cC7SL4\n")
    studio.put_clip(root / "train" / "archery" / "kIRmvrmc2nM_000001_000011.mp4")
    studio.put_clip(root / "train" / "air drumming" / "2B65vtRd5Ck.mp4")
    studio.put_clip(root / "train" / "archery" / "notinthelist.mp4")
    studio.put_clip(root / "val" / "archery" / "zkyy5cC7SL4_000007_000017.mp4")
    return {
        "/kIRmvrmc2nM_000001_000011.mp4": ("archery", "train"),
        "/2B65vtRd5Ck.mp4": ("air drumming", "train"),
        "/zkyy5cC7SL4_000007_000017.mp4": ("archery", "val"),
    }


def build_ucf101(root: Path, studio: Studio) -> Expected:
    videos = {
        "Archery/v_Archery_g08_c01": ("Archery", "train"),
        "HandstandPushups/v_HandStandPushups_g09_c02": ("HandstandPushups", "train"),
        "Archery/v_Archery_g01_c01": ("Archery", "test"),
    }
    numbers = {"Archery": 3, "HandstandPushups": 37}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for video, (name, part) in videos.items():
        studio.put_clip(root / "UCF-101" / f"{video}.avi")
        lines[part].append(f"{video}.avi" + (f" {numbers[name]}" if part == "train" else ""))
    for part, content in lines.items():
        write(root / "ucfTrainTestlist" / f"{part}list01.txt", "\r\n".join(content) + "\r\n")
    return {f"{video}.avi": expected for video, expected in videos.items()}


def build_hmdb51(root: Path, studio: Studio) -> Expected:
    files = {
        "brush_hair": {"April_09_brush_hair_u_nm_np1_ba_goo_0": 1, "x_brush_hair_1": 2, "y_brush_hair_2": 0},
        "wave": {"#20_wave_f_cm_np1_ba_med_0": 1},
    }
    for name, videos in files.items():
        text = "".join(f"{video}.avi {number} \n" for video, number in videos.items())
        write(root / "testTrainMulti_7030_splits" / f"{name}_test_split1.txt", text)
        for video in videos:
            studio.put_clip(root / "videos" / name / f"{video}.avi")
    return {
        "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi": ("brush_hair", "train"),
        "brush_hair/x_brush_hair_1.avi": ("brush_hair", "test"),
        "wave/#20_wave_f_cm_np1_ba_med_0.avi": ("wave", "train"),
    }


def build_hacs(root: Path, studio: Studio) -> Expected:
    header = ("classname", "youtube_id", "subset", "start", "end", "label")
    rows = [
        ("Archery", "a2X2hz1G6i8", "training", 1.5, 3.5, 1),
        ("Archery", "a2X2hz1G6i8", "training", 4.0, 6.0, -1),
        ("Ballet", "NUdji_CqvcY", "training", 0.0, 2.0, 1),
        ("Ballet", "0O_qMHxBfXg", "validation", 24.5, 26.5, 1),
    ]
    _write_csv(root / "HACS_v1.1" / "HACS_clips_v1.1.csv", header, rows)
    studio.put_long(root / "training" / "Archery" / "v_a2X2hz1G6i8.mp4")
    studio.put_long(root / "training" / "Ballet" / "NUdji_CqvcY.mp4")
    studio.put_clip(root / "validation" / "Ballet" / "0O_qMHxBfXg_24.5_26.5.mp4")
    return {
        "/v_a2X2hz1G6i8.mp4#1.50-3.50s": ("Archery", "train"),
        "/NUdji_CqvcY.mp4#0.00-2.00s": ("Ballet", "train"),
        "/0O_qMHxBfXg_24.5_26.5.mp4": ("Ballet", "val"),
    }


def build_moments(root: Path, studio: Studio) -> Expected:
    write(root / "moments_categories.txt", "clapping,0\npraying,1\n")
    write(root / "trainingSet.csv", "clapping/yt-0_1.mp4,clapping,3,1\npraying/yt-0_1.mp4,praying,4,0\n")
    write(root / "validationSet.csv", "praying/flickr-2.mp4,praying,3,0\n")
    # One clip in two classes: the same name in two folders.
    for video in ("training/clapping/yt-0_1", "training/praying/yt-0_1", "validation/praying/flickr-2"):
        studio.put_clip(root / f"{video}.mp4")
    return {
        "clapping/yt-0_1.mp4": ("clapping", "train"),
        "praying/yt-0_1.mp4": ("praying", "train"),
        "praying/flickr-2.mp4": ("praying", "val"),
    }


def build_diving48(root: Path, studio: Studio) -> Expected:
    videos = {
        "train": [("zBvi-jTs6Tg_00001", 0), ("zBvi-jTs6Tg_00002", 47)],
        "test": [("VNvb5oLOpLg_00781", 12)],
    }
    for part, samples in videos.items():
        content = [
            {"vid_name": video, "label": label, "start_frame": 0, "end_frame": 90} for video, label in samples
        ]
        write(root / f"Diving48_V2_{part}.json", json.dumps(content))
        for video, _ in samples:
            studio.put_clip(root / "rgb" / f"{video}.mp4")
    return {
        "/zBvi-jTs6Tg_00001.mp4": ("Back+15som+05Twis+FREE", "train"),
        "/zBvi-jTs6Tg_00002.mp4": ("Reverse+Dive+NoTwis+TUCK", "train"),
        "/VNvb5oLOpLg_00781.mp4": ("Back+35som+NoTwis+TUCK", "test"),
    }


EPIC_HEADER = (
    *("uid", "participant_id", "video_id", "narration", "start_timestamp", "stop_timestamp"),
    *(
        "start_frame",
        "stop_frame",
        "verb",
        "verb_class",
        "noun",
        "noun_class",
        "all_nouns",
        "all_noun_classes",
    ),
)
EPIC_ROWS = (
    (
        0,
        "P01",
        "P01_01",
        "open door",
        "00:00:00.14",
        "00:00:03.37",
        8,
        202,
        "open",
        2,
        "door",
        8,
        "['door']",
        "[8]",
    ),
    (
        1,
        "P01",
        "P01_01",
        "turn on",
        "00:00:04.37",
        "00:00:06.17",
        262,
        370,
        "turn-on",
        12,
        "light",
        113,
        "",
        "",
    ),
    (
        9,
        "P26",
        "P26_02",
        "open door",
        "00:00:01.00",
        "00:00:02.00",
        3,
        7,
        "open",
        2,
        "door",
        8,
        "['door']",
        "[8]",
    ),
)


def build_epic(root: Path, studio: Studio) -> Expected:
    """One video as a file, the other as a folder of frames."""
    _write_csv(root / "annotations" / "EPIC_train_action_labels.csv", EPIC_HEADER, EPIC_ROWS)
    _write_csv(
        root / "annotations" / "EPIC_test_s1_timestamps.csv",
        (
            "uid",
            "participant_id",
            "video_id",
            "start_timestamp",
            "stop_timestamp",
            "start_frame",
            "stop_frame",
        ),
        [(1924, "P01", "P01_11", "00:00:00.00", "00:00:01.89", 1, 113)],
    )
    studio.put_long(root / "videos" / "train" / "P01" / "P01_01.MP4")
    studio.put_long(root / "videos" / "test" / "P01" / "P01_11.MP4")
    frames = root / "frames_rgb_flow" / "rgb" / "train" / "P26" / "P26_02"
    studio.put_frames(frames, template="frame_{:010d}.jpg", count=12)
    studio.put_frames(root / "frames_rgb_flow" / "flow" / "train" / "P26" / "P26_02" / "u")
    return {
        "P01/P01_01.MP4#0.14-3.37s": ("open cupboard", "train"),
        "P01/P01_01.MP4#4.37-6.17s": ("turn-on light", "train"),
        "P26/P26_02#2-6f": ("open cupboard", "val"),
    }


def make_miniature(dataset: str, folder: Path) -> tuple[Path, int]:
    """A miniature of a dataset on the shelf.

    Args:
        dataset: its name there.
        folder: new.

    Returns:
        The root, and the number of training videos in it.
    """
    studio = _furnish(folder)
    root = folder / dataset
    root.mkdir()
    expected = BUILDERS[dataset](root, studio)
    return root, sum(part == "train" for _, part in expected.values())


def make_gesture_list(folder: Path) -> tuple[Path, int]:
    """A list of one's own: two gestures, each recorded in four sessions.

    Returns:
        The list file, and the number of videos in it.
    """
    studio = _furnish(folder)
    rows = [(f"{name}-{session}.mp4", name, session) for name in ("left", "right") for session in range(4)]
    for video, _, _ in rows:
        studio.put_clip(folder / video)
    _write_csv(folder / "labels.csv", ("video", "label", "session"), rows)
    return folder / "labels.csv", len(rows)


def _furnish(folder: Path) -> Studio:
    (folder / "studio").mkdir(parents=True)
    return open_studio(folder / "studio")


BUILDERS: dict[str, Callable[[Path, Studio], Expected]] = {
    "something_something_v1": build_something_v1,
    "something_something_v2": build_something_v2,
    "jester": build_jester,
    "kinetics400": build_kinetics400,
    "kinetics600": build_kinetics600,
    "kinetics700": build_kinetics700,
    "mini_kinetics200": build_mini_kinetics,
    "ucf101": build_ucf101,
    "hmdb51": build_hmdb51,
    "hacs": build_hacs,
    "moments": build_moments,
    "diving48": build_diving48,
    "epic_kitchens55": build_epic,
}
