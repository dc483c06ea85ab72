"""What stays as it is: during a run of two epochs, not only in a flag."""

from dataclasses import replace

import pytest
import torch
from runs import MODEL, read_weights
from torch import nn

from kinemix.engine.freeze import freeze_
from kinemix.engine.settle import settle_config
from kinemix.engine.train import train
from kinemix.errors import ConfigError
from kinemix.models.factory import create_model


def list_changed(config, **optim):
    """Tensors that a run has changed: weights, and running statistics."""
    config = replace(config, optim=replace(config.optim, epochs=2, weight_decay=0.01, **optim))
    torch.manual_seed(config.seed)
    before = create_model(MODEL, num_classes=12, num_frames=4, input_size=32).state_dict()
    after = read_weights(train(config))
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def list_norms():
    model = create_model(MODEL, num_classes=12, num_frames=4, input_size=32)
    return [path for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]


STATISTICS, AFFINE = ("running_mean", "running_var", "num_batches_tracked"), ("weight", "bias")


@pytest.mark.parametrize(
    ("batch_norm", "kept"),
    [
        ("learns", ()),
        ("partial", STATISTICS),
        ("first", STATISTICS + AFFINE),
        ("fixed", STATISTICS + AFFINE),
    ],
)
def test_batch_norm(config, batch_norm, kept):
    first, *others = list_norms()
    everything = list_changed(config)
    changed = list_changed(replace(config, out=f"{config.out}-2"), batch_norm=batch_norm)
    unchanged = {f"{norm}.{name}" for norm in others for name in kept}
    if batch_norm == "fixed":
        unchanged |= {f"{first}.{name}" for name in kept}
    assert unchanged < everything or not unchanged
    assert changed == everything - unchanged


def test_frozen_stages(config):
    assert any(name.startswith("backbone.conv1") for name in list_changed(config))
    changed = list_changed(replace(config, out=f"{config.out}-2"), frozen_stages=2)
    frozen = ("backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2")
    assert changed
    assert not any(name.startswith(frozen) for name in changed)
    assert {name.split(".")[1] for name in changed} == {"layer3", "layer4", "fc"}


def test_a_factor_of_zero_freezes(config):
    changed = list_changed(config, lr_scales={"*": 0, "*.fc.*": 1}, batch_norm="fixed")
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}


@pytest.mark.parametrize(
    ("name", "stem", "first_of_stage_2"),
    [
        ("tsm_resnet50", {"conv1", "bn1", "act1", "maxpool"}, "layer2.0"),
        ("gsm_bn_inception", {"conv1", "pool1", "conv2_reduce", "conv2", "pool2"}, "inception_3c"),
        ("tsm_convnext_atto", {"stem"}, "stages.1.downsample"),
        ("mtnet_s", {"stem"}, "stages.1.0"),
    ],
)
def test_stages_by_structure(name, stem, first_of_stage_2):
    model = create_model(name, num_classes=3, num_frames=4, input_size=64)
    assert {path for path, stage in model.stages.items() if stage == 0 and "." not in path} == stem
    assert model.stages[first_of_stage_2] == 2
    freeze_(model, frozen_stages=1)
    frozen = {path.split(".")[1] for path, p in model.named_parameters() if not p.requires_grad}
    assert stem & frozen
    assert any(
        p.requires_grad
        for path, p in model.named_parameters()
        if path.startswith(f"backbone.{first_of_stage_2}")
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [("mixtconv_resnet18", 1), ("gsm_bn_inception", 1), ("ctm_resnet18", 3), ("mtnet_s", 1)],
)
def test_what_a_temporal_module_adds_to_a_frozen_stage_learns(name, count):
    """MTConv stands instead of a stage's own convolutions, and is the stage."""
    model = create_model(name, num_classes=3, num_frames=4, input_size=64)
    resting = freeze_(model, frozen_stages=count)
    model.train()
    for module in resting:
        module.training = False
    frozen = [path for path, stage in model.stages.items() if stage <= count]
    learning = set()
    for path, module in model.named_modules():
        if any(f"{path}.".startswith(f"backbone.{stage}.") for stage in frozen):
            adds = ".temporal" in path and name != "mtnet_s"
            assert module.training is adds, path
            assert all(p.requires_grad is adds for p in module.parameters(recurse=False)), path
            learning |= {path} if adds else set()
    assert bool(learning & model.temporal_modules().keys()) is (name != "mtnet_s")


def test_what_cannot_be_frozen(config):
    model = create_model(MODEL, num_classes=3, num_frames=2, input_size=32)
    with pytest.raises(ConfigError, match=rf"optim\.frozen_stages is 5: {MODEL} has 4 stages"):
        freeze_(model, frozen_stages=5)
    with pytest.raises(ConfigError, match=r"optim\.lr_scales: 'fc\.\*' matches no parameter"):
        freeze_(model, lr_scales={"fc.*": 1})
    with pytest.raises(ConfigError, match="nothing is left to learn"):
        freeze_(model, lr_scales={"*": 0})
    for optim, message in (
        ({"lr_scales": {"*": -1}}, r"optim\.lr_scales: '\*' has a factor below 0"),
        ({"warmup_epochs": 1, "warmup_iterations": 5}, "give one of them"),
        ({"frozen_stages": -1}, r"optim\.frozen_stages is -1"),
        ({"warmup_start": 1.5}, r"optim\.warmup_start is 1\.5"),
        ({"lr_batch": 0}, r"optim\.lr_batch is 0"),
        ({"gamma": -1.0}, r"optim\.gamma is -1\.0: .* give more than 0"),
        ({"milestones": (3.0, 1.0)}, r"optim\.milestones is \[3\.0, 1\.0\]: give them in their order"),
    ):
        with pytest.raises(ConfigError, match=message):
            settle_config(replace(config, optim=replace(config.optim, **optim)))
