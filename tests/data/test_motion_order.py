"""Only the order of frames tells the classes of a pair apart: the claim on which every figure rests."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kinemix.data.catalog.motion import CLASSES, PAIRS, make_motion, scene
from kinemix.data.catalog.motion.encode import encode_clip
from kinemix.data.catalog.motion.paint import paint_scene

Frames = NDArray[np.uint8]
CHANCE_OF_FALSE_ALARM = 1e-4


def read_clip(path: Path) -> tuple[Frames, list[int]]:
    """Decoded frames ``T H W 3`` and the bytes of each packet."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert all(packet.is_keyframe and packet.pts == packet.dts for packet in packets)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert {frame.pict_type for frame in frames} == {av.video.frame.PictureType.I}
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), [p.size for p in packets]


def read_split(folder: Path, split: str) -> dict[str, tuple[Frames, list[int]]]:
    return {
        str(path.relative_to(folder)): read_clip(path) for path in sorted(folder.glob(f"{split}/*/*.mp4"))
    }


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[Frames, list[int]]]]:
    folder = make_motion(tmp_path_factory.mktemp("easy"), train_per_class=30, val_per_class=30, size=48)
    return {split: read_split(folder, split) for split in ("train", "val")}


@pytest.mark.parametrize("grade", ["easy", "medium", "hard"])
def test_twins_are_exact_reversals(tmp_path: Path, grade: str) -> None:
    folder = make_motion(tmp_path, grade=grade, train_per_class=1, val_per_class=2, seed=11)
    clips = read_split(folder, "train") | read_split(folder, "val")
    about = {clip["path"]: clip for clip in json.loads((folder / "motion.json").read_text())["clips"]}
    assert set(about) == set(clips)
    for path, clip in about.items():
        twin = about[clip["twin"]]
        assert (PAIRS[clip["class"]], clip["split"]) == (twin["class"], twin["split"])
        assert clip["reversed"] != twin["reversed"]
        assert clip["boxes"] == twin["boxes"][::-1]
        assert np.array_equal(clips[path][0], clips[clip["twin"]][0][::-1])
        assert (clips[path][0][0] != clips[path][0][-1]).any()


def best_accuracy(clips: dict[str, Any], see: Callable[[Frames], Hashable]) -> float:
    """Accuracy of the perfect classifier among all those that know a clip by ``see`` alone.

    It answers each thing that it can tell apart with its most frequent class, having looked at the answers.
    """
    classes: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for path, (frames, _) in clips.items():
        classes[see(frames)][path.split("/")[1]] += 1
    return sum(max(counts.values()) for counts in classes.values()) / len(clips)


def see_without_order(frames: Frames) -> Hashable:
    return frozenset(Counter(frame.tobytes() for frame in frames).items())


def sample_middles(frames: Frames) -> Frames:
    """The frames of a test with 8 segments: the middle of each."""
    return frames[[int(len(frames) / 16 + len(frames) / 8 * i) for i in range(8)]]


def test_a_perfect_orderless_classifier_gets_exactly_half(easy: dict[str, Any]) -> None:
    """A function of the multiset of frames gives twins one answer: right for one, wrong for the other."""
    for clips in easy.values():
        assert best_accuracy(clips, see_without_order) == 0.5
        assert best_accuracy(clips, lambda frames: see_without_order(sample_middles(frames))) == 0.5
        assert best_accuracy(clips, lambda frames: sample_middles(frames).tobytes()) == 1.0


def test_encoding_commutes_with_reversal() -> None:
    """Also where an encoder would love to predict: noise that stands still, then a cut."""
    random = np.random.default_rng(0)
    still, other = random.integers(0, 256, (2, 1, 48, 48, 3), dtype=np.uint8)
    frames = np.concatenate([still] * 7 + [other] * 6)
    forward, backward = decode(encode_clip(frames)), decode(encode_clip(frames[::-1]))
    assert np.array_equal(forward, backward[::-1])
    assert (forward[:7] == forward[0]).all()
    assert (forward[7:] == forward[7]).all()


def test_an_ordinary_encoding_would_betray_the_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: x264 with its own settings gives another picture backwards."""
    drawn = scene.draw_scene(np.random.default_rng(1), "grow", scene.GRADES["easy"], 24)
    frames, _ = paint_scene(drawn, 48)
    monkeypatch.setattr("kinemix.data.catalog.motion.encode._X264", "crf=23:threads=1")
    assert not np.array_equal(decode(encode_clip(frames)), decode(encode_clip(frames[::-1]))[::-1])


def decode(content: bytes) -> Frames:
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def shrink_frames(frames: Frames) -> NDArray[np.float64]:
    """Means over squares of a twelfth of the side: ``T 432``."""
    time, side, _, _ = frames.shape
    return frames.reshape(time, 12, side // 12, 12, side // 12, 3).mean(axis=(2, 4)).reshape(time, -1)


VIEWS: dict[str, Callable[[Frames, list[int]], NDArray[np.float64]]] = {
    "first frame": lambda frames, sizes: shrink_frames(frames[:1])[0],
    "second frame": lambda frames, sizes: shrink_frames(frames[1:2])[0],
    "middle frame": lambda frames, sizes: shrink_frames(frames[11:12])[0],
    "last frame": lambda frames, sizes: shrink_frames(frames[-1:])[0],
    "sharpness of the first frame": lambda frames, sizes: np.array(
        [np.abs(np.diff(frames[0].astype(float), n, axis)).mean() for n in (1, 2) for axis in (0, 1)]
    ),
    "mean and deviation over frames": lambda frames, sizes: np.concatenate(
        [f(shrink_frames(frames), axis=0) for f in (np.mean, np.std)]
    ),
    "packet sizes, sorted": lambda frames, sizes: np.array([sum(sizes), *sorted(sizes)], float),
    "first and last packet size": lambda frames, sizes: np.array([sizes[0], sizes[-1]], float),
}


def count_right(
    train: dict[str, NDArray[Any]], val: dict[str, NDArray[Any]], forest: bool
) -> tuple[int, int]:
    """Right pair decisions on held-out clips, and their number; inputs are ``path -> features``.

    Of each pair of held-out twins one is asked about, by turns the forward and the backward one, so that the
    decisions are independent and a classifier without knowledge is right with probability one half.
    """
    right = asked = 0
    for name in scene.FORWARD_CLASSES:
        members = [path for path in train if path.split("/")[1] in (name, PAIRS[name])]
        if forest:
            model: Any = RandomForestClassifier(60, random_state=0)
        else:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        model.fit(np.stack([train[path] for path in members]), [path.split("/")[1] for path in members])
        turns = [
            path for path in val if path.split("/")[1] == (name if int(Path(path).stem) % 2 else PAIRS[name])
        ]
        answers = model.predict(np.stack([val[path] for path in turns]))
        right += sum(answer == path.split("/")[1] for answer, path in zip(answers, turns, strict=True))
        asked += len(turns)
    return right, asked


def binomial_bound(asked: int) -> int:
    """More right answers than this come by chance less than once in ten thousand times."""
    return int(binom.isf(CHANCE_OF_FALSE_ALARM, asked, 0.5))


@pytest.mark.parametrize("forest", [False, True], ids=["logistic", "forest"])
@pytest.mark.parametrize("view", VIEWS)
def test_what_a_single_frame_shows_tells_nothing(easy: dict[str, Any], view: str, forest: bool) -> None:
    """180 decisions a view: the bound is 115 right, 64 %."""
    seen = {
        split: {path: VIEWS[view](frames, sizes) for path, (frames, sizes) in clips.items()}
        for split, clips in easy.items()
    }
    right, asked = count_right(seen["train"], seen["val"], forest)
    assert asked == 15 * len(CLASSES)
    assert binomial_bound(asked) == 115
    assert right <= binomial_bound(asked), f"{right} of {asked} pair decisions from the {view}"


@pytest.mark.parametrize("loops", [True, False])
def test_the_loop_is_what_hides_the_direction(monkeypatch: pytest.MonkeyPatch, loops: bool) -> None:
    """The control of the test above: motion that begins at one end is known from its first frame."""
    if not loops:
        draw_phase = scene._draw_phase

        def draw_from_the_start(*args: Any) -> Any:
            phase, facts = draw_phase(*args)
            return np.linspace(0.1, 0.9, len(phase), dtype=np.float32), facts

        monkeypatch.setattr(scene, "_draw_phase", draw_from_the_start)
    grade = replace(scene.GRADES["easy"], distractors=0)
    seen: dict[str, dict[str, NDArray[Any]]] = {"train": {}, "val": {}}
    for split, start in (("train", 0), ("val", 1000)):
        for number in range(30):
            for place, name in enumerate(scene.FORWARD_CLASSES):
                random = np.random.default_rng([start + number, place])
                frames, _ = paint_scene(scene.draw_scene(random, name, grade, 9), 24)
                first, last = shrink_frames(frames[[0, -1]])
                seen[split] |= {f"{split}/{name}/{number}": first, f"{split}/{PAIRS[name]}/{number}": last}
    right, asked = count_right(seen["train"], seen["val"], forest=True)
    assert (right <= binomial_bound(asked)) == loops, f"{right} of {asked}"
