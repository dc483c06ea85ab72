"""CTM networks: the published places and counts, and what a network does at another size."""

import pytest
import torch
from timm.models import create_model as create_timm

from kinemix.errors import ConfigError, LayoutError
from kinemix.evaluate.complexity import measure_complexity
from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
from kinemix.models.factory import create_model

# 200 classes, 8 frames of 224 pixels: millions of parameters, billions of multiply-adds.
COUNTS = {0: (23.918, 32.70), 1: (25.171, 34.66), 3: (27.677, 38.57), 6: (31.436, 44.44)}


@pytest.mark.parametrize("num_blocks", COUNTS)
def test_counts_of_table_3(num_blocks: int) -> None:
    with torch.device("meta"):
        if num_blocks:
            model = create_model("ctm_resnet50", num_classes=200, num_blocks=num_blocks)
        else:
            model = create_model("tsn_resnet50", num_classes=200)
    cost = measure_complexity(model)
    parameters, macs = COUNTS[num_blocks]
    assert round(cost.parameters / 1e6, 3) == parameters
    assert cost.macs / 1e9 == pytest.approx(macs, rel=0.001)
    assert len(cost.sites) == num_blocks


@pytest.mark.parametrize(
    ("backbone", "options", "places"),
    [
        ("resnet50", {}, ["after layer3.0", "after layer3.2", "after layer3.4"]),
        ("resnet50", {"num_blocks": 1}, ["before layer3.5"]),
        ("resnet50", {"num_blocks": 6}, [f"after layer3.{i}" for i in range(6)]),
        ("resnet101", {}, ["after layer3.5", "after layer3.11", "after layer3.17"]),
        ("resnet50", {"num_blocks": 1, "stage": 2}, ["before layer1.2"]),
        ("resnet50", {"num_blocks": 1, "stage": 3}, ["before layer2.3"]),
        ("resnet50", {"num_blocks": 1, "stage": 5}, ["before layer4.2"]),
        ("resnet18", {}, ["after layer3.0", "after layer3.1"]),
    ],
)
def test_places(backbone: str, options: dict[str, int], places: list[str]) -> None:
    with torch.device("meta"):
        model = create_model(f"ctm_{backbone}", num_classes=2, input_size=64, **options)
    assert [f"{site.place} {site.path}" for site in model.sites] == places


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(ConfigError, match="3 blocks are to be used in stage 3, which has 2"):
        create_model("ctm_resnet18", num_classes=2, num_blocks=3)


def test_logits_of_the_backbone_are_untouched() -> None:
    torch.manual_seed(0)
    plain = create_timm("resnet18", num_classes=5).eval()
    model = create_model("ctm_resnet18", num_classes=5, input_size=64, num_frames=3).eval()
    own = model.state_dict()
    wanted = {
        key.replace(".host.", ".").removeprefix("backbone."): key for key in own if ".temporal." not in key
    }
    model.load_state_dict({key: plain.state_dict()[name] for name, key in wanted.items()}, strict=False)
    clip = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(clip), plain(clip.flatten(0, 1)).unflatten(0, (2, 3)).mean(1))


def test_another_size() -> None:
    model = create_model("ctm_resnet18", num_classes=2, input_size=64, num_frames=2).eval()
    with pytest.raises(
        LayoutError,
        match=r"ctm was built for frames of \(64, 64\) pixels, got \(96, 64\).* or with interpolate=True$",
    ):
        model(torch.randn(1, 2, 3, 96, 64))
    larger = create_model("ctm_resnet18", num_classes=2, input_size=96, num_frames=2)
    with pytest.raises(
        RuntimeError, match=r"saved for maps of 4x4 pixels, this network's are 6x6: .*interpolate=True"
    ):
        larger.load_state_dict(model.state_dict())


def test_a_checkpoint_at_another_size(tmp_path) -> None:
    torch.manual_seed(0)
    options = {"num_classes": 2, "num_frames": 2, "interpolate": True}
    model = create_model("ctm_resnet18", input_size=64, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    clip = torch.randn(1, 2, 3, 96, 96)
    save_checkpoint(tmp_path, model=model, metadata={})
    larger = create_model("ctm_resnet18", input_size=96, **options)
    larger, _ = load_checkpoint(tmp_path, model=larger)
    with torch.no_grad():
        torch.testing.assert_close(larger(clip), model(clip))
        same, _ = load_checkpoint(tmp_path)
        assert torch.equal(same(clip), model(clip))


@pytest.mark.parametrize("channels_last", [False, True])
def test_bfloat16(channels_last: bool) -> None:
    torch.manual_seed(0)
    model = create_model("ctm_resnet18", num_classes=2, input_size=64, num_frames=2).eval().bfloat16()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    assert model(torch.randn(1, 2, 3, 64, 64, dtype=torch.bfloat16)).isfinite().all()


@pytest.mark.slow
def test_export_and_compile() -> None:
    torch.manual_seed(0)
    model = create_model("ctm_resnet18", num_classes=2, input_size=64, num_frames=4).eval()
    clip = torch.randn(3, 4, 3, 64, 64)
    dynamic = ({0: torch.export.Dim("clips", max=64)},)
    program = torch.export.export(model, (clip[:2],), dynamic_shapes=dynamic)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(clip), model(clip))
    compiled = torch.compile(model, backend="inductor")
    torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-3, atol=1e-4)
