"""A recogniser answers as the test did, whatever form the video comes in."""

import os
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

from kinemix.config import AugmentConfig, DataConfig, MachineConfig, OptimConfig, Protocol, TrainConfig
from kinemix.data._guarded import CAN_GUARD
from kinemix.data.catalog.motion import make_motion
from kinemix.data.reader import open_video
from kinemix.deploy.predict import Recogniser, load, predict_in_bulk
from kinemix.engine.measure import measure_run
from kinemix.engine.train import train
from kinemix.errors import CheckpointError, ConfigError, DataError, LayoutError, UnreadableVideoError
from kinemix.evaluate.scores import read_scores
from kinemix.label_space import LabelSpace
from kinemix.models.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    return make_motion(folder, train_per_class=1, val_per_class=1, num_frames=8, size=32, workers=1)


@pytest.fixture(scope="module")
def run(motion, tmp_path_factory):
    config = TrainConfig(
        data=DataConfig(source=str(motion), workers=0, short_side=24),
        model="tsm_test_resnet.r160_in1k",
        size=20,
        protocol=Protocol(num_frames=4, num_clips=2, num_crops=3),
        augment=AugmentConfig(flip="off"),
        optim=OptimConfig(epochs=1, batch_size=4),
        machine=MachineConfig(accelerator="cpu", threads=1),
        out=str(tmp_path_factory.mktemp("runs") / "run"),
    )
    return train(config)


@pytest.fixture(scope="module")
def recogniser(run):
    return load(run, device="cpu")


@pytest.fixture(scope="module")
def video(motion):
    return sorted((motion / "val").rglob("*.mp4"))[0]


def test_predict_equals_test(run, recogniser):
    measured = measure_run(run, workers=0, device="cpu").scores
    assert len(measured.ids) == 12
    for path, logits in zip(measured.ids, measured.logits, strict=True):
        torch.testing.assert_close(recogniser.score(path), torch.from_numpy(logits), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffle"])
def test_measurement_is_written_and_read_back(run, motion, order):
    measured = measure_run(
        run, str(motion), order=order, num_clips=1, num_crops=1, workers=0, checkpoint="last", device="cpu"
    )
    back = read_scores(measured.scores_path)
    assert (back.logits == measured.scores.logits).all()
    assert back.order == order
    assert back.describe_protocol().startswith("4 frames x 1 clip x 1 crop, 20 px, sparse")
    assert back.metrics().top1 == measured.metrics.top1
    assert measured.metrics_path.exists()


def test_ranked_scores(recogniser, video):
    ranked = recogniser.predict(video, top=100)
    assert len(ranked) == 12
    assert sum(p.score for p in ranked) == pytest.approx(1)
    assert [p.logit for p in ranked] == sorted((p.logit for p in ranked), reverse=True)
    assert recogniser.predict(str(video), top=3) == ranked[:3]
    with pytest.raises(ConfigError, match="top is 0"):
        recogniser.predict(video, top=0)


def test_ten_crops_swap_the_answers_of_mirrored_views(recogniser, video):
    """With a network that knows only the mirror's side, the mirrored half must answer the other class."""

    class Side(torch.nn.Module):
        description: dict = {}

        def forward(self, clip):
            left = clip[..., : clip.shape[-1] // 2].mean(dim=(1, 2, 3, 4))
            right = clip[..., clip.shape[-1] // 2 :].mean(dim=(1, 2, 3, 4))
            return torch.stack([left, right], dim=1)

    def score(frames, mirrored_labels):
        protocol = Protocol(num_frames=4, num_crops=10, input=recogniser.protocol.input)
        side = Recogniser(
            Side(),
            protocol=protocol,
            space=LabelSpace(class_names=("l", "r")),
            mirrored_labels=mirrored_labels,
        )
        return side.score(frames)

    frames = torch.zeros(4, 3, 24, 24, dtype=torch.uint8)
    frames[..., :12] = 200
    left, right = score(frames, (1, 0))
    assert left > right
    same = score(frames, (0, 1))
    assert float(same[0]) == pytest.approx(float(same[1]), abs=1e-5)


def test_frames_file_folder_and_tensor_agree(recogniser, video, tmp_path):
    with open_video(video) as reader:
        frames = reader.read(range(reader.num_frames))
    wanted = recogniser.score(frames)
    torch.testing.assert_close(recogniser.score(frames.float() / 255), wanted)
    grey = frames[:, :1]
    torch.testing.assert_close(recogniser.score(grey), recogniser.score(grey.expand(-1, 3, -1, -1)))
    for number, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:05d}.png")
    # The decoder scales to the short side in its own way, so these agree closely but not exactly.
    torch.testing.assert_close(recogniser.score(tmp_path), wanted, rtol=0.05, atol=0.02)
    torch.testing.assert_close(recogniser.score(video), wanted, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(8, 24, 24, 3), "T H W C: use video.permute"),
        (torch.zeros(3, 8, 24, 24), "C T H W: use video.transpose"),
        (torch.zeros(1, 8, 3, 24, 24), r"one clip at a time: clip\[0\]"),
        (torch.zeros(24, 24), "2 dimensions"),
        (torch.zeros(0, 3, 24, 24), "no frames"),
        (torch.zeros(8, 5, 24, 24), "C = 5"),
        (torch.full((8, 3, 24, 24), 200.0), "values from 0 to 1, got 200"),
        (torch.full((8, 3, 24, 24), torch.nan), "values from 0 to 1"),
        (torch.zeros(8, 3, 24, 24, dtype=torch.int64), "torch.int64"),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, torch.Tensor) else "",
)
def test_other_tensors_are_refused(recogniser, frames, message):
    with pytest.raises(LayoutError, match=message):
        recogniser.predict(frames)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((8, 24, 24, 3), np.uint8), r"numpy.ndarray: use torch.from_numpy\(video\).permute"),
        (np.zeros((8, 3, 24, 24), np.uint8), r"numpy.ndarray: use torch.from_numpy\(video\)$"),
        (None, "not NoneType"),
        ([torch.zeros(3, 24, 24)], r"torch.stack\(frames\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_video_is_refused(recogniser, video, message):
    with pytest.raises(LayoutError, match=message):
        recogniser.predict(video)


def test_one_bad_file_does_not_stop_the_others(recogniser, video, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    answers = list(recogniser.predict_files([bad, video, tmp_path / "missing.mp4"], top=1))
    assert [answer.error is None for answer in answers] == [False, True, False]
    assert "bad.mp4" in answers[0].error
    with pytest.raises(UnreadableVideoError):
        recogniser.predict(bad)


def test_several_processes_answer_as_one(run, recogniser, motion, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    files = [bad, *sorted((motion / "val").rglob("*.mp4"))[:5], tmp_path / "missing.mp4"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have
    try:
        alone = list(recogniser.predict_files(files, top=3))
    finally:
        torch.set_num_threads(before)
    for workers in (1, 3):
        assert list(predict_in_bulk(run, files, top=3, workers=workers, device="cpu")) == alone


@pytest.mark.skipif(not CAN_GUARD, reason="what is patched here passes to forked processes alone")
def test_a_decoder_that_crashes_takes_nothing_along(run, recogniser, motion, monkeypatch):
    files = [str(path) for path in sorted((motion / "val").rglob("*.mp4"))[:5]]

    def harm(path, **options):
        if path == files[1]:
            time.sleep(600)
        if path == files[3]:
            os._exit(3)
        return open_video(path, **options)

    monkeypatch.setattr("kinemix.deploy.predict.open_video", harm)
    answers = list(predict_in_bulk(run, files, workers=2, device="cpu", max_seconds=5))
    assert [answer.path for answer in answers] == files
    assert {answer.path: answer.error for answer in answers if answer.error} == {
        files[1]: f"{files[1]}: took longer than 5 s",
        files[3]: f"{files[3]}: its decoder ended the process (exit code 3)",
    }


def test_broken_weights_are_named(recogniser, video):
    model = recogniser.model
    broken = Recogniser(torch.nn.Sequential(model), protocol=recogniser.protocol, space=recogniser.space)
    parameter = next(iter(model.parameters()))
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(torch.nan)
    try:
        with pytest.raises(Exception, match=f"{video.name}.*not finite"):
            broken.predict(video)
    finally:
        with torch.no_grad():
            parameter.copy_(kept)


def test_what_is_no_recogniser(run, recogniser, tmp_path):
    with pytest.raises(CheckpointError, match="no such run directory"):
        load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no such run directory"):
        predict_in_bulk(tmp_path / "nothing", ["a.mp4"])
    save_checkpoint(tmp_path / "bare", model=recogniser.model, metadata={})
    with pytest.raises(CheckpointError, match="without protocol"):
        load(tmp_path / "bare")
    copy = shutil.copytree(run, tmp_path / "copy")
    next((copy / "best").glob("*.safetensors")).write_bytes(b"half")
    with pytest.raises(CheckpointError, match="bytes instead of"):
        load(copy)
    with pytest.raises(CheckpointError, match="bytes instead of"):
        list(predict_in_bulk(copy, ["a.mp4", "b.mp4"]))


def test_too_many_unreadable_videos_make_no_figure(run, motion, tmp_path):
    source = tmp_path / "videos"
    shutil.copytree(motion / "val", source)
    sorted(source.rglob("*.mp4"))[0].write_bytes(b"no video")
    with pytest.raises(DataError, match=r"1 of 12 videos cannot be read.*max_unreadable"):
        measure_run(run, str(source), workers=0, device="cpu")


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_remembered_frames_answer_as_the_video(recogniser, video, order):
    remembered = recogniser.remember(video)
    assert remembered.num_frames == 8
    assert recogniser.predict(remembered, order=order) == recogniser.predict(video, order=order)


def test_frames_remembered_for_another_protocol(recogniser, video):
    other = Recogniser(recogniser.model, protocol=Protocol(num_frames=2), space=recogniser.space)
    with pytest.raises(ConfigError, match=r"remembered for another protocol \(2 frames"):
        recogniser.predict(other.remember(video))
