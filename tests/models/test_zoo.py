"""Any CNN of timm, and torchvision's: every module finds its places, and as the identity changes nothing.

The default run finds the sites of every module and placement in every backbone (on the meta device), and
runs one backbone of each family for real; the slow run takes the full grid.
"""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

import kinemix
from kinemix.errors import ConfigError
from kinemix.models.backbones import create_backbone
from kinemix.models.insertion import find_sites_in_trace
from kinemix.models.trace import Trace, run_on_meta, trace_network
from kinemix.models.video import Inserted, VideoModel
from kinemix.temporal import Insertion, TemporalModule, shelf

# Backbone and the size for real runs: small, but large enough for what it does to maps.
ZOO = {
    "resnet18": 64,
    "resnet50": 64,
    "resnet26d": 64,
    "seresnet50": 64,
    "resnext50_32x4d": 64,
    "resnetv2_50": 64,
    "nf_resnet26": 64,
    "resnest14d": 64,
    "skresnet18": 64,
    "res2net50_26w_4s": 64,
    "regnetx_002": 64,
    "regnety_002": 64,
    "mobilenetv2_100": 64,
    "mobilenetv3_small_100": 64,
    "mobilenetv4_conv_small": 64,
    "efficientnet_b0": 64,
    "tf_efficientnetv2_b0": 64,
    "mixnet_s": 64,
    "mnasnet_100": 64,
    "fbnetc_100": 64,
    "lcnet_050": 64,
    "rexnet_100": 64,
    "ghostnet_100": 64,
    "ghostnetv2_100": 64,
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "inception_next_atto": 64,
    "edgenext_xx_small": 64,
    "convmixer_768_32": 64,
    "densenet121": 64,
    "vgg11": 64,
    "vgg11_bn": 64,
    "inception_v3": 96,
    "inception_v4": 96,
    "legacy_xception": 96,
    "xception41": 64,
    "darknet53": 64,
    "cspresnet50": 64,
    "dla34": 64,
    "dpn68": 64,
    "ese_vovnet19b_dw": 64,
    "ese_vovnet39b": 64,
    "hrnet_w18_small": 64,
    "repvgg_a0": 64,
    "mobileone_s0": 64,
    "selecsls42": 64,
    "hgnetv2_b0": 64,
    "repvit_m0_9": 64,
    "torchvision.resnet18": 64,
    "torchvision.resnet50": 64,
    "torchvision.vgg11": 64,
    "torchvision.squeezenet1_1": 64,
    "torchvision.shufflenet_v2_x0_5": 64,
    "torchvision.googlenet": 64,
    "torchvision.densenet121": 64,
    "torchvision.mobilenet_v2": 64,
    "torchvision.efficientnet_b0": 64,
    "torchvision.convnext_tiny": 64,
    "torchvision.regnet_y_400mf": 64,
    "torchvision.mnasnet0_5": 64,
}

# One of each kind of block; the slow run takes all.
FAMILIES = [
    "resnet18",
    "resnetv2_50",
    "resnext50_32x4d",
    "res2net50_26w_4s",
    "regnetx_002",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "mixnet_s",
    "lcnet_050",
    "ghostnet_100",
    "convnext_atto",
    "inception_next_atto",
    "edgenext_xx_small",
    "densenet121",
    "inception_v3",
    "xception41",
    "dla34",
    "dpn68",
    "ese_vovnet19b_dw",
    "hrnet_w18_small",
    "repvgg_a0",
    "torchvision.resnet18",
    "torchvision.squeezenet1_1",
    "torchvision.shufflenet_v2_x0_5",
    "torchvision.mobilenet_v2",
]

PLACED = [(name, placement) for name in shelf.names() for placement in shelf.get(name).placements]
IDENTITIES = [
    (name, placement, {"init": "delta"})
    for name, placement in PLACED
    if name in ("conv1d", "depthwise", "mixtconv")
]
ON_META = [name for name in ZOO if name != "torchvision.regnet_y_400mf"]  # it reads a number back when built


def trace_of(backbone: str) -> tuple[nn.Module, Trace]:
    with torch.device("meta"):
        made = create_backbone(backbone, num_classes=5)
    return made.network, trace_network(made.network, channels=3, input_size=made.input_spec.size)


@pytest.mark.parametrize("backbone", ON_META)
def test_every_module_finds_its_places(backbone: str) -> None:
    network, trace = trace_of(backbone)
    counts = set()
    for name, placement in PLACED:
        insertion = shelf.get(name).placements[placement]
        try:
            sites = find_sites_in_trace(network, trace, insertion, num_frames=4)
        except ConfigError as error:
            # A module bound to one stage, or one that replaces convolutions, cannot go everywhere: it says why.
            if insertion.stages is None and insertion.place != "instead":
                raise
            explained = "no place for|cannot be replaced|only one can be replaced|not give one map"
            if not re.search(explained, str(error)):
                raise
            continue
        assert len({site.path for site in sites}) == len(sites)
        assert all(s.channels > 1 and s.height > 1 and s.width > 1 for s in sites), "a gate is no place"
        if insertion.stages is None:
            counts.add((insertion.every, len(sites)))
    assert min(count for _, count in counts) >= 4


@pytest.mark.parametrize("module", shelf.names())
@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_b0", "densenet121", "inception_v3", "vgg11"])
def test_shapes_through_every_module(backbone: str, module: str) -> None:
    with torch.device("meta"):
        model = kinemix.create_model(f"{module}_{backbone}", num_classes=5, num_frames=4)
    assert run_on_meta(model, (2, 4, 3, *model.input_spec.size)).shape == (2, 5)


def check_network(
    backbone: str, module: str, placement: str, options: dict[str, object], *, identity: bool
) -> None:
    """Every parameter gets a gradient; as the identity, the logits are bit for bit the plain backbone's."""
    torch.manual_seed(0)
    size = ZOO[backbone]

    def create(**where: object) -> VideoModel:
        where |= options
        return kinemix.create_model(
            f"{module}_{backbone}", num_classes=5, num_frames=2, input_size=size, **where
        ).train()

    try:
        model = create(placement=placement)
    except ConfigError as error:
        model = create(**follow_cure(error, module, placement))
    wake_(model.backbone)
    clips = torch.randn(2, 2, 3, size, size)
    nn.functional.cross_entropy(model(clips), torch.tensor([0, 1])).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    temporal = [p.grad for m in model.temporal_modules().values() for p in m.parameters()]
    assert all(torch.isfinite(grad).all() for grad in temporal)
    if identity:
        with torch.no_grad():
            logits = model.eval()(clips)
            for temporal_module in model.temporal_modules().values():
                for p in temporal_module.parameters():
                    p.add_(torch.randn_like(p))
            assert not torch.equal(logits, model(clips)), "what is inserted must matter"
            assert torch.equal(logits, unplug_(model)(clips))


def follow_cure(error: ConfigError, module: str, placement: str) -> dict[str, object]:
    """What an error names instead: what replaces convolutions or is bound to one stage cannot go everywhere."""
    insertion, message = shelf.get(module).placements[placement], str(error)
    beside = {"at": insertion.at, "place": "before"}
    if insertion.place == "instead" and message.endswith(f"placement={beside}"):
        return {"placement": beside}
    if insertion.stages is not None and re.search("^no place .* stages 1 to .* choose among these", message):
        return {"placement": placement, "stages": [1]}
    if message.endswith("does not give one map N C H W: choose another module, or another place"):
        return {"placement": replace(insertion, at="first_conv", place="before")}
    raise error


def wake_(backbone: nn.Module) -> None:
    """Many networks start each residual branch with zero weights at its end, so that nothing in it counts."""
    for module in backbone.modules():
        for name, p in module.named_parameters(recurse=False):
            if not isinstance(module, TemporalModule) and name != "bias" and p.abs().max() < 1e-3:
                nn.init.uniform_(p, 0.5, 1)


def unplug_(model: VideoModel) -> VideoModel:
    """Put every host back in its place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Inserted):
                setattr(parent, name, child.host)
    assert not model.temporal_modules()
    return model


@pytest.mark.parametrize(("number", "backbone"), list(enumerate(FAMILIES)))
def test_as_the_identity_it_changes_nothing(number: int, backbone: str) -> None:
    module, placement, options = IDENTITIES[2 + number % (len(IDENTITIES) - 2)]
    check_network(backbone, module, placement, options, identity=True)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "placement", "options"), IDENTITIES)
@pytest.mark.parametrize("backbone", ZOO)
def test_every_identity_everywhere(
    backbone: str, module: str, placement: str, options: dict[str, object]
) -> None:
    check_network(backbone, module, placement, options, identity=True)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "placement"), [p for p in PLACED if p not in [i[:2] for i in IDENTITIES]])
@pytest.mark.parametrize("backbone", ZOO)
def test_every_other_module_trains_everywhere(backbone: str, module: str, placement: str) -> None:
    check_network(backbone, module, placement, {}, identity=False)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_100"])
def test_a_pattern_of_ones_own(backbone: str) -> None:
    with torch.device("meta"):
        network = create_backbone(backbone, num_classes=5).network
    trace = trace_network(network, channels=3, input_size=(64, 64))
    assert find_sites_in_trace(network, trace, Insertion(at="{block}.bn1"), num_frames=4)
    with pytest.raises(ConfigError, match="no place"):
        find_sites_in_trace(network, trace, Insertion(at="{block}.bn77"), num_frames=4)
