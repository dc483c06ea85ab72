"""The plan names the right places, and the surgery leaves everything else as it was."""

import pytest
import timm
import torch
from torch import Tensor, nn

from kinemix.errors import ConfigError
from kinemix.models.insertion import find_sites, insert_
from kinemix.models.video import Fold, Inserted, VideoModel
from kinemix.temporal import Insertion, Site, TemporalModule


class Reverse(TemporalModule):
    """Every frame takes the place of its mirror image in time."""

    name = "reverse"

    def forward(self, clip: Tensor) -> Tensor:
        return clip.flip(1)


def make(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=5)


def paths(network: nn.Module, insertion: Insertion, size: int = 224) -> list[str]:
    sites = find_sites(network, insertion, input_size=(size, size), num_frames=8)
    return [site.path for site in sites]


def test_a_site_knows_its_map() -> None:
    sites = find_sites(make("resnet50"), Insertion(at="first_conv"), input_size=(224, 192), num_frames=8)
    assert len(sites) == 16
    # In the first block of a stage, conv1 still sees the map of the stage before.
    assert sites[3] == Site(
        path="layer2.0.conv1", channels=256, height=56, width=48, num_frames=8, stage=2, block=0
    )
    assert sites[4].channels == 512
    assert (sites[4].height, sites[4].width) == (28, 24)


def test_after_the_first_convolution() -> None:
    insertion = Insertion(at="first_conv", place="after")
    sites = find_sites(make("resnet50"), insertion, input_size=(224, 224), num_frames=8)
    assert [s.channels for s in sites] == [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
    assert {s.place for s in sites} == {"after"}


@pytest.mark.parametrize(("name", "count"), [("resnet50", 16), ("resnet101", 2 + 2 + 12 + 2)])
def test_every_second_block_where_there_are_23(name: str, count: int) -> None:
    found = paths(make(name), Insertion(at="first_conv", every=None))
    assert len(found) == count
    assert found[0] == "layer1.0.conv1"
    if name == "resnet101":
        assert found[1] == "layer1.2.conv1"
        assert "layer3.22.conv1" in found


def test_blocks_and_stages() -> None:
    network = make("resnet50")
    assert paths(network, Insertion(at="block", place="after", stages=(3,), blocks=(-2,))) == ["layer3.4"]
    assert paths(network, Insertion(at="block", place="after", stages=(3,), blocks=(0, 2, 4))) == [
        "layer3.0",
        "layer3.2",
        "layer3.4",
    ]
    assert paths(make("resnet101"), Insertion(at="block", stages=(3,), blocks=(5, 11, 17))) == [
        "layer3.5",
        "layer3.11",
        "layer3.17",
    ]
    assert len(paths(network, Insertion(at="block", every=2))) == 2 + 2 + 3 + 2


def test_patterns() -> None:
    inception = make("inception_v3")
    found = paths(inception, Insertion(at="{block}.branch1x1.conv", place="after"), 299)
    assert found == [
        f"Mixed_{b}.branch1x1.conv" for b in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c")
    ]
    assert paths(inception, Insertion(at="{block}.branch1x1.conv", stages=(3,)), 299) == [
        "Mixed_7b.branch1x1.conv",
        "Mixed_7c.branch1x1.conv",
    ]
    resnet = make("resnet18")
    assert paths(resnet, Insertion(at="layer?.1.conv2")) == [f"layer{i}.1.conv2" for i in (1, 2, 3, 4)]
    assert paths(resnet, Insertion(at="layer?.*.conv2", stages=(2,), blocks=(0,))) == ["layer2.0.conv2"]
    stem = find_sites(resnet, Insertion(at="conv1"), input_size=(64, 64), num_frames=4)
    assert [(s.path, s.channels, s.stage) for s in stem] == [("conv1", 3, 1)]


def test_a_layer_that_takes_a_list_gets_it_before_its_first_convolution() -> None:
    found = paths(make("densenet121"), Insertion(at="block", stages=(1,)))
    assert found == [f"features.denseblock1.denselayer{i}.conv1" for i in range(1, 7)]


@pytest.mark.parametrize(
    ("insertion", "message"),
    [
        (Insertion(at="block", stages=(5,)), r"stages 1 to 4 have \[2, 2, 2, 2\] blocks, such as 'layer1.0'"),
        (Insertion(at="{block}.conv9"), r"no place for .*conv9"),
        (Insertion(at="block", blocks=(7,)), r"no place for a module before block, blocks \(7,\) in ResNet"),
        (Insertion(at="block", every=0), r"every is 0"),
        (Insertion(at="fc"), r"'fc' \(Linear\), which does not take one map"),
    ],
)
def test_nothing_found_says_what_was_looked_for(insertion: Insertion, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        paths(make("resnet18"), insertion)


def test_maps_with_channels_at_the_end_are_no_place() -> None:
    """MambaOut's blocks pass N H W C: only its depthwise convolution sees N C H W."""
    network = make("mambaout_femto")
    sites = find_sites(network, Insertion(at="first_conv"), input_size=(224, 160), num_frames=4)
    assert all(s.path.endswith(".conv") and s.height * 160 == s.width * 224 for s in sites)
    assert paths(network, Insertion(at="block")) == [site.path for site in sites]
    with pytest.raises(ConfigError, match="does not give one map N C H W"):
        paths(network, Insertion(at="block", place="after"))


def test_a_transformer_is_refused() -> None:
    with pytest.raises(ConfigError, match="VisionTransformer: it has no block"):
        paths(make("vit_tiny_patch16_224"), Insertion(at="block"))


def test_the_host_keeps_its_weights_and_answers_by_name() -> None:
    network = timm.create_model("resnet18", num_classes=5)
    conv, weight = network.layer1[0].conv1, network.layer1[0].conv1.weight
    sites = find_sites(network, Insertion(at="first_conv"), input_size=(64, 64), num_frames=4)
    insert_(network, sites, Reverse, Fold(4))
    inserted = network.layer1[0].conv1
    assert isinstance(inserted, Inserted)
    assert inserted.host is conv
    assert inserted.weight is weight
    assert inserted.stride == (1, 1)
    with pytest.raises(AttributeError):
        _ = inserted.nothing_of_the_kind


def test_a_block_and_its_convolution_can_both_be_hosts() -> None:
    network = timm.create_model("resnet18", num_classes=5)
    fold = Fold(4)
    size = {"input_size": (64, 64), "num_frames": 4}
    both = [
        *find_sites(network, Insertion(at="block", stages=(1,)), **size),
        *find_sites(network, Insertion(at="first_conv", stages=(1,)), **size),
        *find_sites(network, Insertion(at="block", place="after", stages=(1,)), **size),
    ]
    insert_(network, both, Reverse, fold)
    frames = fold.open(torch.rand(2, 4, 3, 64, 64))
    assert network(frames).shape == (8, 5)
    assert sum(isinstance(m, Reverse) for m in network.modules()) == 6


@pytest.mark.parametrize("place", ["before", "after"])
def test_before_and_after_in_time(place: str) -> None:
    """A per-frame host and a mirror in time: both orders give the mirrored frames, each by its own way."""
    order: list[str] = []

    class Note(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            order.append("host")
            return frames * 2

    class NotedReverse(Reverse):
        def forward(self, clip: Tensor) -> Tensor:
            order.append("temporal")
            return super().forward(clip)

    site = Site(path="x", channels=3, height=2, width=2, num_frames=4)
    fold = Fold(4)
    clip = torch.rand(2, 4, 3, 2, 2)
    result = fold_through(Inserted(NotedReverse(site), Note(), place=place, layout=fold), fold, clip)
    assert torch.equal(result, 2 * clip.flip(1))
    assert order == (["temporal", "host"] if place == "before" else ["host", "temporal"])


def fold_through(module: nn.Module, fold: Fold, clip: Tensor) -> Tensor:
    return fold.clip(module(fold.open(clip)))


def test_insertion_equals_a_shift_written_by_hand() -> None:
    """TSM's own definition, as a pre-hook on a plain network's convolutions, gives the same logits."""
    import kinemix

    model = kinemix.create_model(
        "tsm_torchvision.resnet18", num_classes=4, num_frames=5, input_size=64
    ).eval()
    assert isinstance(model, VideoModel)
    from torchvision.models import resnet18

    plain = resnet18(num_classes=4).eval()
    own = {k.replace(".host", "").removeprefix("backbone."): v for k, v in model.state_dict().items()}
    plain.load_state_dict(own)

    def shift(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        clip = args[0].unflatten(0, (-1, 5))
        moved = clip.clone()
        eighth = clip.shape[2] // 8
        for t in range(5):
            moved[:, t, :eighth] = clip[:, t + 1, :eighth] if t < 4 else 0
            moved[:, t, eighth : 2 * eighth] = clip[:, t - 1, eighth : 2 * eighth] if t > 0 else 0
        return (moved.flatten(0, 1),)

    for name, module in plain.named_modules():
        if name.startswith("layer") and name.endswith("conv1"):
            module.register_forward_pre_hook(shift)
    clip = torch.randn(2, 5, 3, 64, 64)
    with torch.no_grad():
        expected = torch.stack([plain(one).mean(0) for one in clip])
        torch.testing.assert_close(model(clip), expected, rtol=1e-4, atol=1e-6)
