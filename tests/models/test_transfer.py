"""Weights of one network in another: which tensors, which not, and that the copied ones answer the same."""

import pytest
import torch
import torchvision

from kinemix.errors import CheckpointError
from kinemix.models.checkpoint import save_checkpoint
from kinemix.models.factory import create_model
from kinemix.models.transfer import start_from_

SMALL = {"num_frames": 4, "input_size": 32}
NET = "test_resnet.r160_in1k"


def create(name, num_classes=3, **options):
    return create_model(name, num_classes=num_classes, **{**SMALL, **options}).eval()


def save(folder, model, class_names):
    save_checkpoint(folder, model=model, metadata={"class_names": class_names})
    return folder


def test_a_plain_run_into_a_mixed_one(tmp_path):
    """TSN's weights in MSTNet: with the temporal modules put to rest, they answer alike."""
    plain, mixed = create(f"tsn_{NET}"), create(f"mstnet_{NET}", init="delta")
    folder = save(tmp_path / "plain", plain, ["a", "b", "c"])
    transfer = start_from_(mixed, folder, class_names=["a", "b", "c"])
    clip = torch.randn(2, 4, 3, 32, 32)
    torch.testing.assert_close(mixed(clip), plain(clip))
    assert set(transfer.taken) == {key.removeprefix("backbone.") for key in plain.state_dict()}
    assert all(".temporal." in name for name in transfer.new)
    assert len(transfer.new) == sum(len(list(m.parameters())) for m in mixed.temporal_modules().values())
    assert not transfer.left
    assert not transfer.classes_differ
    assert transfer.numbers == sum(tensor.numel() for tensor in plain.state_dict().values())


def test_temporal_modules_of_one_kind_are_taken_and_of_another_left(tmp_path):
    source = create(f"mixtconv_{NET}", kernel_sizes=(1, 3))
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    folder = save(tmp_path / "source", source, ["a", "b", "c"])
    same = create(f"mixtconv_{NET}", kernel_sizes=(1, 3))
    start_from_(same, folder, class_names=["a", "b", "c"])
    for name, tensor in source.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name
    transfer = start_from_(create(f"tsm_{NET}"), folder, class_names=["a", "b", "c"])
    assert not transfer.new
    assert transfer.left
    assert all(".temporal." in name for name in transfer.left)


@pytest.mark.parametrize("classes", [["a", "b"], ["c", "b", "a"]], ids=["fewer", "another order"])
def test_other_classes_get_a_new_classifier(tmp_path, classes):
    source = create(f"tsn_{NET}")
    folder = save(tmp_path / "source", source, ["a", "b", "c"])
    target = create(f"tsn_{NET}", num_classes=len(classes))
    before = target.backbone.fc.weight.clone()
    transfer = start_from_(target, folder, class_names=classes)
    assert transfer.classes_differ
    assert transfer.new == transfer.left == ("fc.weight", "fc.bias")
    assert torch.equal(target.backbone.fc.weight, before)
    assert torch.equal(target.backbone.conv1[0].weight, source.backbone.conv1[0].weight)
    line = transfer.describe()
    assert f"taken over from {folder}" in line
    assert "2 start afresh (fc.weight, fc.bias); 2 left behind (fc.weight, fc.bias)" in line
    assert line.endswith("the classifier is new: it was made for other classes")


def test_a_layer_of_another_shape_starts_afresh(tmp_path):
    folder = save(tmp_path / "source", create(f"tsn_{NET}", color="gray"), ["a", "b", "c"])
    transfer = start_from_(create(f"tsn_{NET}"), folder, class_names=["a", "b", "c"])
    assert "conv1.0.weight" in transfer.new
    assert "conv1.0.weight" in transfer.left
    assert "layer1.0.conv1.weight" in transfer.taken


def test_kernels_that_can_be_resized_are(tmp_path):
    folder = save(tmp_path / "source", create(f"ctm_{NET}", input_size=64), ["a", "b", "c"])
    bound = start_from_(create(f"ctm_{NET}", input_size=96), folder, class_names=["a", "b", "c"])
    assert any(name.endswith(".kernels") for name in bound.new)
    free = start_from_(
        create(f"ctm_{NET}", input_size=96, interpolate=True), folder, class_names=["a", "b", "c"]
    )
    assert not free.new


def test_a_file_of_another_project(tmp_path):
    """torchvision's names are the backbone's own; its classifier is for other classes, whatever their number."""
    theirs = torchvision.models.resnet18(num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = create("tsm_resnet18")
    transfer = start_from_(ours, tmp_path / "resnet18.pth", class_names=["a", "b", "c"])
    assert transfer.new == ("fc.weight", "fc.bias")
    assert torch.equal(ours.backbone.layer2[0].conv1.host.weight, theirs.layer2[0].conv1.weight)


def test_what_cannot_be_started_from(tmp_path):
    folder = save(tmp_path / "source", create(f"tsn_{NET}"), ["a", "b", "c"])
    with pytest.raises(CheckpointError, match=r"no layer of it fits x3d_s; it holds conv1\.0\.weight"):
        start_from_(create_model("x3d_s", num_classes=3), folder, class_names=["a", "b", "c"])
    with pytest.raises(CheckpointError, match="no such run directory"):
        start_from_(create(f"tsn_{NET}"), tmp_path / "nothing", class_names=["a", "b", "c"])
