"""The door to timm and torchvision: input specs, weights files and their errors."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from kinemix.errors import ConfigError, KinemixError
from kinemix.models.backbones import create_backbone, list_backbones
from kinemix.models.factory import create_model


def test_input_specs() -> None:
    with torch.device("meta"):
        spec = create_backbone("resnet50", num_classes=2).input_spec
        assert (spec.size, spec.color, spec.scale) == ((224, 224), "rgb", 1.0)
        assert spec.mean == (0.485, 0.456, 0.406)
        assert create_backbone("resnet50", num_classes=2, input_size=112).input_spec.size == (112, 112)
        assert create_backbone("resnet50", num_classes=2, input_size=(64, 96)).input_spec.size == (64, 96)
        gray = create_backbone("resnet50", num_classes=2, color="gray").input_spec
        assert gray.channels == 1
        assert gray.mean == pytest.approx((0.449,))
        inception = create_backbone("torchvision.inception_v3", num_classes=2).input_spec
        assert (inception.size, inception.mean) == ((299, 299), (0.5, 0.5, 0.5))


def test_list_backbones() -> None:
    assert "resnet18" in list_backbones("resnet1*")
    assert "torchvision.vgg11" in list_backbones("torchvision.*")
    assert not list_backbones("torchvision.vit*")


@pytest.mark.parametrize(
    "name", ["resnet18", "resnetv2_50", "torchvision.shufflenet_v2_x0_5", "torchvision.squeezenet1_1"]
)
def test_a_fresh_classifier_starts_as_in_tsn(name: str) -> None:
    network = create_backbone(name, num_classes=50).network
    layer = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not layer.bias.any()


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_small_050", "torchvision.resnet18", "torchvision.mobilenet_v2"]
)
def test_dropout_stands_before_the_classifier(name: str) -> None:
    def changes(dropout: float) -> bool:
        network = create_backbone(name, num_classes=3, dropout=dropout, input_size=64).network.eval()
        for module in network.modules():  # dropout alone, without batch statistics
            if isinstance(module, nn.Dropout):
                module.train()
        network.training = True
        torch.manual_seed(0)
        frame = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            return not torch.equal(network(frame), network(frame))

    assert changes(0.5)
    assert not changes(0.0)


def test_weights_from_a_file_come_before_the_surgery(tmp_path: Path) -> None:
    published = timm.create_model("resnet18", num_classes=1000)
    for p in published.parameters():
        p.data.normal_()
    save_file(published.state_dict(), tmp_path / "weights.safetensors")
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.safetensors")}}
    model = create_model("tsm_resnet18", num_classes=5, pretrained=True, backbone_options=overlay)
    assert torch.equal(model.backbone.layer3[0].conv1.host.weight, published.layer3[0].conv1.weight)
    assert model.backbone.fc.weight.std().item() == pytest.approx(0.001, rel=0.2)
    gray = create_backbone("resnet18", num_classes=5, pretrained=True, color="gray", backbone_options=overlay)
    torch.testing.assert_close(gray.network.conv1.weight, published.conv1.weight.sum(1, keepdim=True))
    kept = create_backbone("resnet18", num_classes=1000, pretrained=True, backbone_options=overlay)
    assert torch.equal(kept.network.fc.weight, published.fc.weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torchvision_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    published = torchvision.models.googlenet(weights=None, init_weights=False)  # with auxiliary classifiers
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(published.state_dict(), path)
    else:
        save_file(published.state_dict(), path)
    options = {"weights": str(path)}
    network = create_backbone(
        "torchvision.googlenet", num_classes=5, pretrained=True, backbone_options=options
    ).network
    assert torch.equal(network.inception4a.branch1.conv.weight, published.inception4a.branch1.conv.weight)
    assert network.fc.out_features == 5
    kept = create_backbone(
        "torchvision.googlenet", num_classes=1000, pretrained=True, dropout=0.5, backbone_options=options
    )
    assert torch.equal(kept.network.fc.weight, published.fc.weight)
    gray = create_backbone(
        "torchvision.googlenet", num_classes=5, pretrained=True, color="gray", backbone_options=options
    )
    torch.testing.assert_close(
        gray.network.conv1.conv.weight, published.conv1.conv.weight.sum(1, keepdim=True)
    )
    with pytest.raises(KinemixError, match=r"do not fit 'torchvision.resnet18': .* tensors are missing"):
        create_backbone("torchvision.resnet18", num_classes=5, pretrained=True, backbone_options=options)


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "none.safetensors")}}
    with pytest.raises(
        KinemixError, match=r"none.safetensors: there is no such weights file for 'resnet18'"
    ) as caught:
        create_backbone("resnet18", num_classes=5, pretrained=True, backbone_options=overlay)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"has no weights 'IMAGENET1K_V9'.*IMAGENET1K_V1"):
        create_backbone(
            "torchvision.resnet18",
            num_classes=5,
            pretrained=True,
            backbone_options={"weights": "IMAGENET1K_V9"},
        )
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(KinemixError, match="the published weights of 'resnet18' cannot be had"):
        create_backbone(
            "resnet18",
            num_classes=5,
            pretrained=True,
            backbone_options={"pretrained_cfg_overlay": {"file": str(broken)}},
        )
    with pytest.raises(KinemixError, match="cannot be had"):
        create_backbone(
            "torchvision.resnet18", num_classes=5, pretrained=True, backbone_options={"weights": str(broken)}
        )


def test_published_weights_are_rgb() -> None:
    with pytest.raises(ConfigError, match="made for rgb, not bgr"):
        create_backbone("resnet18", num_classes=5, pretrained=True, color="bgr")
