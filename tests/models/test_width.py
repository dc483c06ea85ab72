"""Our own backbones with fewer channels: the same network otherwise."""

import pytest
import torch
from torch import nn

from kinemix.errors import ConfigError
from kinemix.models.factory import create_model
from kinemix.models.networks import find_networks, narrow


def build(name, **options):
    with torch.device("meta"):
        return create_model(name, num_classes=7, num_frames=4, input_size=96, **options)


def list_kernels(model):
    """Output channels and kernel of every convolution, by path."""
    convs = (nn.Conv2d, nn.Conv3d)
    return {n: (m.out_channels, m.kernel_size) for n, m in model.named_modules() if isinstance(m, convs)}


@pytest.mark.parametrize(
    "name", ["bn_inception", "inception_v3", "x3d_s", "r3d_resnet50", "r2plus1d_resnet18"]
)
def test_a_narrow_network_has_the_same_layers(name):
    prefix = "" if find_networks()[name].takes_clips else "tsn_"
    full = build(prefix + name)
    half = build(prefix + name, backbone_options={"width": 0.5})
    kernels, halved = list_kernels(full), list_kernels(half)
    assert kernels.keys() == halved.keys()
    for path, (channels, size) in kernels.items():
        assert halved[path][1] == size
        assert 0.35 < halved[path][0] / channels < 0.75, path
    assert sum(p.numel() for p in half.parameters()) < 0.4 * sum(p.numel() for p in full.parameters())


def test_modules_stand_where_they_stand_in_the_full_network():
    for branch in (1, 3, "all"):
        full = build("gsm_bn_inception", branch=branch)
        narrow_one = build("gsm_bn_inception", branch=branch, backbone_options={"width": 0.25})
        assert [site.path for site in full.sites] == [site.path for site in narrow_one.sites]
        assert all(module.interleave for module in narrow_one.temporal_modules().values())


def test_width():
    assert narrow(45, 1.0) == 45
    assert [narrow(64, width) for width in (0.25, 0.3, 0.01)] == [16, 20, 4]
    with pytest.raises(ConfigError, match="width is 0: it is a factor on the channels, above 0"):
        build("x3d_s", backbone_options={"width": 0})
