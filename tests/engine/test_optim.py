"""Parameter groups by counting, and against the released code's rules written out for one network."""

import pytest
import torch
from torch import nn

from kinemix.engine.optim import build_optimizer, check_patterns, group_parameters, set_rate_
from kinemix.errors import ConfigError
from kinemix.models.factory import create_model


def make_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_are_spared():
    net = make_net()
    decayed, spared = group_parameters(net, weight_decay=0.1, decay_norms=False)
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert {id(p) for p in spared["params"]} == {id(net[i].bias) for i in (0, 1, 3)} | {id(net[1].weight)}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    (everything,) = group_parameters(net, weight_decay=0.1, decay_norms=True)
    assert len(everything["params"]) == 6


def test_frozen_parameters_are_left_out():
    net = make_net()
    net[0].requires_grad_(False)
    (group,) = group_parameters(net, weight_decay=0.1, decay_norms=True)
    assert len(group["params"]) == 4


def name_groups(model, **options):
    """``(rate factor, decay)`` of every parameter, by path."""
    names = {id(parameter): path for path, parameter in model.named_parameters()}
    groups = group_parameters(model, weight_decay=0.1, **options)
    return {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.fixture(scope="module")
def inception():
    """Every convolution of it has a bias, and GSM brings 3D convolutions and norms of its own."""
    return create_model("gsm_bn_inception", num_classes=5, num_frames=2)


@pytest.mark.parametrize(("policy", "weight", "bias"), [("tsn", 1, 2), ("tsm", 5, 10)])
def test_policies_of_the_released_code(inception, policy, weight, bias):
    groups = name_groups(inception, policy=policy, classifier="backbone.fc")
    wanted = {}
    for path, module in inception.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                one = (1, 0.0)
            elif path == "backbone.fc":
                one = (weight, 0.1) if name == "weight" else (bias, 0.0)
            else:
                one = (1, 0.1) if name == "weight" else (2, 0.0)
            wanted[f"{path}.{name}"] = one
    assert groups == wanted
    assert len(set(groups.values())) == {"tsn": 3, "tsm": 5}[policy]


def test_scale_of_a_layer_is_no_weight():
    """ConvNeXt's gammas and the biases of recurrent cells (``bias_ih_l0``)."""
    groups = name_groups(create_model("tsm_convnext_atto", num_classes=3, num_frames=2), policy="tsm")
    assert groups["backbone.stages.0.blocks.0.norm.weight"] == (1, 0.0)
    assert all(decay == 0 for path, (_, decay) in groups.items() if path.endswith((".gamma", ".bias")))
    cells = name_groups(nn.ModuleDict({"cell": nn.GRU(4, 4)}), policy="tsn")
    assert cells["cell.weight_hh_l0"] == (1, 0.1)
    assert cells["cell.bias_hh_l0"] == (2, 0.0)


def test_factors_by_path_multiply_those_of_the_policy():
    net = make_net()
    scales = {"*": 0.1, "3.*": 1.0}
    groups = name_groups(net, policy="tsm", lr_scales=scales, classifier="3")
    assert groups == {
        "0.weight": (0.1, 0.1),
        "0.bias": (0.2, 0.0),
        "1.weight": (0.1, 0.0),
        "1.bias": (0.1, 0.0),
        "3.weight": (5, 0.1),
        "3.bias": (10, 0.0),
    }
    with pytest.raises(
        ConfigError, match=r"'layer4\.\*' matches no parameter; they are called '0\.weight' to"
    ):
        check_patterns({"*": 1, "layer4.*": 2}, [path for path, _ in net.named_parameters()])
    with pytest.raises(ConfigError, match=r"optim\.policy 'tsmm': did you mean 'tsm'"):
        group_parameters(net, weight_decay=0.1, policy="tsmm")


def test_optimizers_and_their_rate():
    groups = group_parameters(make_net(), weight_decay=0.1, policy="tsm", classifier="3")
    sgd = build_optimizer(groups, name="sgd", lr=0.1, nesterov=True)
    assert isinstance(sgd, torch.optim.SGD)
    set_rate_(sgd, 0.5)
    assert [g["lr"] for g in sgd.param_groups] == [0.5 * g["lr_scale"] for g in sgd.param_groups]
    assert {g["lr"] for g in sgd.param_groups} == {0.5, 1.0, 2.5, 5.0}
    assert isinstance(build_optimizer(groups, name="adamw", lr=0.1), torch.optim.AdamW)
    with pytest.raises(ConfigError, match="adamw"):
        build_optimizer(groups, name="adam", lr=0.1)
    with pytest.raises(ConfigError, match="momentum"):
        build_optimizer(groups, name="sgd", lr=0.1, momentum=0, nesterov=True)
