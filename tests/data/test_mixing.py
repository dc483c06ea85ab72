"""Mixed clips and labels against their equations."""

import pytest
import torch

from kinemix.data.dataset import Batch
from kinemix.data.mixing import ClipMixer, soften
from kinemix.label_space import LabelSpace

ONE = LabelSpace(class_names=("a", "b", "c"))
TASKS = LabelSpace.of_tasks({"verb": ("cut", "wash"), "noun": ("pan", "cup", "egg")})
SEVERAL = LabelSpace(class_names=("a", "b", "c"), multilabel=True)


def make_batch(labels, *, first=0):
    count = len(labels)
    clips = torch.randn(count, 3, 2, 8, 10, generator=torch.Generator().manual_seed(0))
    return Batch(clips, torch.tensor(labels), torch.arange(first, first + count))


def build(space=ONE, **options):
    return ClipMixer(**({"mixup": 0, "cutmix": 0, "share": 1, "seed": 0} | options), space=space)


def test_mixup_is_one_sum_for_clips_and_labels():
    batch = make_batch([0, 2, 1, 1])
    mixed = build(mixup=0.8)(batch, epoch=3)
    shares = mixed.labels[0]
    share = float(shares[0])  # of the first clip, of class 0; its neighbour is the last, of class 1
    assert 0 < share < 1
    for i in range(4):
        neighbour = batch.clips[i - 1]
        torch.testing.assert_close(mixed.clips[i], share * batch.clips[i] + (1 - share) * neighbour)
        target = torch.zeros(3)
        target[batch.labels[i]] += share
        target[batch.labels[i - 1]] += 1 - share
        torch.testing.assert_close(mixed.labels[i], target)
    assert type(mixed.clips) is torch.Tensor
    assert torch.equal(mixed.indices, batch.indices)


def test_cutmix_puts_the_same_rectangle_into_all_frames():
    batch = make_batch([0, 1, 2])
    shares = []
    for epoch in range(30):
        mixed = build(cutmix=1.0)(batch, epoch=epoch)
        foreign = (mixed.clips[1] != batch.clips[1]).all(dim=1)  # T H W
        assert (foreign == foreign[0]).all()
        rows, columns = foreign[0].any(dim=1), foreign[0].any(dim=0)
        assert torch.equal(foreign[0], rows[:, None] & columns)
        share = 1 - float(foreign[0].float().mean())
        assert mixed.labels[1].tolist() == pytest.approx([1 - share, share, 0])
        assert torch.equal(mixed.clips[1, ..., foreign[0]], batch.clips[0, ..., foreign[0]])
        shares.append(share)
    assert len(set(shares)) > 10


def test_draws_depend_on_seed_epoch_and_batch_alone():
    one, other = make_batch([0, 1, 2]), make_batch([0, 1, 2], first=3)
    mixer = build(mixup=1.0)
    first = mixer(one, epoch=0).clips
    state = torch.get_rng_state()
    assert torch.equal(mixer(one, epoch=0).clips, first)
    assert torch.equal(torch.get_rng_state(), state)
    for different in (mixer(one, epoch=1), mixer(other, epoch=0), build(mixup=1.0, seed=1)(one, epoch=0)):
        assert not torch.equal(different.clips, first)


def test_shares_of_batches():
    batch = make_batch([0, 1, 2])
    mixer = build(mixup=1.0, cutmix=1.0, share=0.6)
    kinds = []
    for epoch in range(200):
        mixed = mixer(batch, epoch=epoch)
        changed = mixed.clips != batch.clips
        kinds.append("none" if not changed.any() else "mixup" if changed.all() else "cutmix")
    counts = {kind: kinds.count(kind) for kind in ("none", "mixup", "cutmix")}
    assert counts["none"] == pytest.approx(80, abs=25)
    assert counts["mixup"] == pytest.approx(60, abs=25)
    assert counts["cutmix"] > 30


def test_targets_of_tasks_and_of_several_labels():
    assert soften(torch.tensor([[1, 0], [0, 2]]), TASKS).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    several = torch.tensor([[1, 0, 1], [0, 0, 0]])
    assert torch.equal(soften(several, SEVERAL), several.float())
    mixed = build(space=TASKS, mixup=1.0)(make_batch([[1, 0], [0, 2], [1, 1]]), epoch=0).labels
    assert mixed[:, :2].sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert mixed[:, 2:].sum(dim=1).tolist() == pytest.approx([1, 1, 1])
