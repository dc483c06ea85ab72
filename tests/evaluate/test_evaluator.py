"""Views through a network: pooled over videos and batches, kept, mirrored back; every way gives the same logits."""

import numpy as np
import pytest
import torch
from PIL import Image

from kinemix.config import InputSpec, Protocol
from kinemix.data.dataset import Batch, Unreadable
from kinemix.data.loader import build_test_loader
from kinemix.data.reader import open_video
from kinemix.data.sources import open_annotations
from kinemix.data.views import read_views
from kinemix.errors import ConfigError
from kinemix.evaluate.evaluator import average_views, evaluate, score_each_view, score_views
from kinemix.label_space import LabelSpace

NAMES = ["a", "b", "c"]


class Counter(torch.nn.Module):
    """Logits of a clip from its mean; notes how many frames every forward pass had."""

    def __init__(self):
        super().__init__()
        self.passes = []

    def forward(self, clip):
        self.passes.append((clip.shape[0] * clip.shape[1], tuple(clip.shape[3:])))
        mean = clip.mean(dim=(1, 2, 3, 4))
        return torch.stack([mean, mean**2, -mean], dim=1)


def make_batches(sizes, *, views=2, frames=4):
    """One video a batch, each of its own frame size."""
    generator = torch.Generator().manual_seed(0)
    for index, size in enumerate(sizes):
        clips = torch.randn(1, views, frames, 3, *size, generator=generator)
        yield Batch(clips, torch.tensor([index % 3]), torch.tensor([index]))


def run(batches, protocol, **options):
    model = Counter()
    ids = [f"video {i}" for i in range(20)]
    scores = evaluate(
        model, batches, ids=ids, space=LabelSpace(class_names=tuple(NAMES)), protocol=protocol, **options
    )
    return scores, model.passes


def test_batches_join_up_to_a_number_of_frames():
    protocol = Protocol(num_frames=4, num_clips=2)
    one, alone = run(make_batches([(8, 8)] * 7), protocol, frames_at_once=1)
    many, pooled = run(make_batches([(8, 8)] * 7), protocol, frames_at_once=24)
    assert [frames for frames, _ in alone] == [4] * 14  # never less than a clip
    assert [frames for frames, _ in pooled] == [24, 24, 8]
    np.testing.assert_allclose(many.logits, one.logits, rtol=1e-6)
    assert many.ids == one.ids == tuple(f"video {i}" for i in range(7))


def test_videos_of_different_shapes_are_tested_together_where_they_can():
    sizes = [(8, 8), (8, 8), (8, 12), (8, 12), (8, 12), (8, 8)]
    protocol = Protocol(num_frames=4, num_clips=2, crop_size="frame")
    scores, passes = run(make_batches(sizes), protocol, frames_at_once=64)
    assert passes == [(16, (8, 8)), (24, (8, 12)), (8, (8, 8))]
    wanted = [batch.clips[0].mean(dim=(1, 2, 3, 4)).mean().item() for batch in make_batches(sizes)]
    np.testing.assert_allclose(scores.logits[:, 0], wanted, rtol=1e-5)


def test_unreadable_videos_are_noted_wherever_they_stand():
    def batches():
        empty = torch.zeros(0, dtype=torch.int64)
        yield Batch(torch.empty(0, 2, 4, 3, 8, 8), empty, empty, (Unreadable(9, "x.mp4", "broken"),))
        yield from make_batches([(8, 8)] * 2)
        yield Batch(torch.empty(0, 2, 4, 3, 9, 9), empty, empty, (Unreadable(8, "y.mp4", "broken"),))

    seen = []
    protocol = Protocol(num_frames=4, num_clips=2)
    scores, _ = run(batches(), protocol, frames_at_once=1000, on_batch=seen.append)
    assert scores.unreadable == (("x.mp4", "broken"), ("y.mp4", "broken"))
    assert len(scores.ids) == 2
    assert sum(seen) == 4


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_kept_views_average_to_the_logits(average):
    protocol = Protocol(num_frames=4, num_clips=2, average=average)
    scores, _ = run(make_batches([(8, 8)] * 3), protocol, keep_views=True)
    assert scores.view_logits.shape == (3, 2, 3)
    if average == "logits":
        wanted = scores.view_logits.mean(axis=1)
    else:
        powers = np.exp(scores.view_logits)
        wanted = np.log((powers / powers.sum(axis=2, keepdims=True)).mean(axis=1))
    np.testing.assert_allclose(scores.logits, wanted, rtol=1e-5, atol=1e-6)
    views = torch.from_numpy(scores.view_logits)
    np.testing.assert_array_equal(
        average_views(views, protocol=protocol, space=scores.space).numpy(), scores.logits
    )
    assert run(make_batches([(8, 8)] * 3), protocol)[0].view_logits is None


def test_mirrored_views_answer_for_the_mirrored_classes():
    protocol = Protocol(num_frames=4, num_clips=2, num_crops=10)
    views = torch.randn(1, 20, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = score_each_view(Counter(), views, protocol=protocol, mirrored_labels=(0, 1, 2))
    swapped = score_each_view(Counter(), views, protocol=protocol, mirrored_labels=(2, 1, 0))
    for view in range(20):
        if view % 10 < 5:  # of each clip the first five crops are as filmed
            assert torch.equal(swapped[0, view], plain[0, view])
        else:
            assert torch.equal(swapped[0, view], plain[0, view, [2, 1, 0]])


@pytest.mark.parametrize(("mirrors", "word"), [(None, "give mirrored_labels"), ((None, 1, 2), "class 'a'")])
def test_ten_crops_without_mirror_images_are_refused_before_anything_runs(mirrors, word):
    with pytest.raises(ConfigError, match=word):
        run(iter(()), Protocol(num_crops=10), mirrored_labels=mirrors)


def test_whole_frames_of_any_shape_from_files(tmp_path):
    """Wide, tall and square videos through the loader, two views each; every one as if it were alone."""
    sizes = {"wide": (40, 24), "tall": (24, 40), "square": (32, 32), "wider": (64, 24)}
    for number, (name, size) in enumerate(sizes.items()):
        folder = tmp_path / ("ab"[number % 2]) / name
        folder.mkdir(parents=True)
        for frame in range(6):
            Image.new("RGB", size, (40 * number, 20 * frame, 90)).save(folder / f"{frame:05d}.png")
    annotations, _ = open_annotations(str(tmp_path), class_names=("a", "b"))
    spec = InputSpec(size=(16, 16))
    protocol = Protocol(input=spec, num_frames=2, num_clips=2, crop_size="frame", crop_fraction=0.5)
    loader = build_test_loader(annotations, protocol=protocol, batch_size=4, workers=0)
    model = Counter()
    ids = [sample.path for sample in annotations.samples]
    scores = evaluate(
        model,
        loader,
        ids=ids,
        space=LabelSpace(class_names=("a", "b", "c")),
        protocol=protocol,
        frames_at_once=64,
    )
    assert {size for _, size in model.passes} == {(32, 53), (53, 32), (32, 32), (32, 85)}
    for path, logits in zip(scores.ids, scores.logits, strict=True):
        with open_video(path) as reader:
            views = read_views(reader, protocol)[None]
            alone = score_views(Counter(), views, protocol=protocol, space=scores.space)
        np.testing.assert_allclose(logits, alone[0], rtol=1e-5)
