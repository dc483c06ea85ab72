"""Networks by name, and the errors of names and options."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

import kinemix
from kinemix.errors import ConfigError
from kinemix.models.factory import parse_name
from kinemix.temporal import Insertion, TemporalModule, shelf


class Halve(TemporalModule):
    """Not on the shelf: named by where it is."""

    name = "halve"

    def forward(self, clip: Tensor) -> Tensor:
        return clip / 2


@pytest.mark.parametrize("name", ["tsn_resnet50", "tsm_resnet50", "conv1d_resnet50", "mixtconv_resnet50"])
def test_promised_names(name: str) -> None:
    assert name in kinemix.list_models("*_resnet50")
    module, backbone = parse_name(name)
    assert (module.name, backbone) == tuple(name.split("_"))


def test_aliases() -> None:
    assert parse_name("mstnet_resnet50")[0] is parse_name("mixtconv_resnet50")[0]
    with torch.device("meta"):
        model = kinemix.create_model("mstnet_resnet50", num_classes=5)
    temporal = next(iter(model.temporal_modules().values()))
    assert len(model.sites) == 16
    assert temporal.kernel_sizes == (1, 3, 5, 7)


def test_backbones_with_underscores_dots_and_tags() -> None:
    assert parse_name("tsm_convnext_tiny.fb_in1k") == (shelf.get("tsm"), "convnext_tiny.fb_in1k")
    assert parse_name("tsm_torchvision.mobilenet_v2")[1] == "torchvision.mobilenet_v2"


def test_list_models_takes_patterns() -> None:
    names = kinemix.list_models("tsm_resnet1?")
    assert "tsm_resnet18" in names
    assert all(n.startswith("tsm_resnet1") and len(n) == len("tsm_resnet18") for n in names)
    everything = kinemix.list_models()
    assert len(everything) == len(set(everything))
    assert {n.partition("_")[0] for n in everything} >= set(shelf.names())
    assert "mixtconv_torchvision.resnet50" in everything
    assert kinemix.list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tsm_resnt50", r"no backbone 'resnt50'; did you mean 'resnet50'"),
        ("mixtcnov_resnet50", r"no temporal module 'mixtcnov'; did you mean 'mixtconv' or 'mtconv'\?"),
        ("resnet50", r"that is a backbone; put a module before it, as 'tsm_resnet50'"),
        ("tsmresnet50", r"names are <module>_<backbone>.*did you mean .*tsm_resnet50"),
        ("x", r"names are <module>_<backbone>, where the modules are conv1d, "),
        ("tsm_resnet50.a1_in2k", r"'resnet50' has no published weights 'a1_in2k': did you mean"),
    ],
)
def test_unknown_names_suggest_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        kinemix.create_model(name, num_classes=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 4}, r"tsm has no option 'folds': did you mean 'fold'\?"),
        ({"placement": "blok"}, r"tsm has no placement 'blok': did you mean 'block'\?"),
        ({"placement": {"where": "block"}}, r"is no insertion: its fields are at, place, every"),
        ({"placement": "block", "stages": (7,)}, r"stages 1 to 4"),
        ({"num_frames": 0}, r"num_frames is 0"),
        ({"num_classes": 0}, r"num_classes is 0"),
        ({"num_frames": "a"}, r"num_frames is 'a': it must be a whole number, 1 or more"),
        ({"num_frames": 2.5}, r"num_frames is 2.5: it must be a whole number"),
        ({"num_classes": "a"}, r"num_classes is 'a': it must be a whole number, 1 or more"),
        ({"num_classes": True}, r"num_classes is True: it must be a whole number"),
        ({"num_classes": {"verb": None}}, r"num_classes of task 'verb' is None: it must be a whole number"),
        ({"num_classes": {"verb": 0}}, r"num_classes of task 'verb' is 0"),
        ({"dropout": 1.5}, r"dropout is 1.5"),
        ({"dropout": "a"}, r"dropout is 'a': it must be at least 0"),
        ({"input_size": 0}, r"input_size is \(0, 0\)"),
        ({"input_size": "ab"}, r"input_size is .*: give one number of pixels, or height and width"),
        ({"backbone_options": {"dept": 3}}, r"'resnet18' does not take these options: .*dept"),
    ],
)
def test_bad_options_are_explained(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kinemix.create_model("tsm_resnet18", **{"num_classes": 2, **options})


def test_numbers_of_numpy_are_numbers() -> None:
    with torch.device("meta"):
        model = kinemix.create_model("tsm_resnet18", num_classes=np.int64(3), num_frames=np.int32(4))
    assert json.dumps(model.description["num_classes"]) == "3"
    assert model.num_frames == 4
    with pytest.raises(ConfigError, match="num_frames is 'a'"):
        kinemix.temporalize(model.backbone, "tsm", num_frames="a")


def test_tsn_goes_nowhere() -> None:
    with torch.device("meta"):
        assert kinemix.create_model("tsn_resnet18", num_classes=2).sites == ()
        with pytest.raises(ConfigError, match="tsn has no placement 'head': it has none"):
            kinemix.create_model("tsn_resnet18", num_classes=2, placement="head")


@pytest.mark.parametrize(
    ("placement", "path", "place"),
    [
        (None, "layer1.0.conv1", "before"),
        ("inner", "layer1.0.conv1", "after"),
        (Insertion(at="block", place="after"), "layer1.0", "after"),
        ({"at": "{block}.bn2", "blocks": [0]}, "layer1.0.bn2", "before"),
    ],
)
def test_placements(placement: object, path: str, place: str) -> None:
    with torch.device("meta"):
        model = kinemix.create_model("mixtconv_resnet18", num_classes=2, placement=placement)
    assert (model.sites[0].path, model.sites[0].place) == (path, place)


def test_the_description_builds_the_same_network_again() -> None:
    model = kinemix.create_model(
        "mixtconv_resnet18",
        num_classes=7,
        num_frames=5,
        input_size=(64, 96),
        color="gray",
        dropout=0.3,
        placement=Insertion(at="block", stages=(2, 3)),
        stages=(3,),
        backbone_options={"act_layer": "gelu"},
        kernel_sizes=(1, 5),
        dilations=(1, 2),
        init="delta",
    ).eval()
    again = kinemix.create_model(**json.loads(json.dumps(model.description))).eval()
    assert again.sites == model.sites
    assert len(model.sites) == 2
    assert again.input_spec == model.input_spec
    assert again.num_frames == 5
    again.load_state_dict(model.state_dict())
    clip = torch.randn(1, 5, 1, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(clip), model(clip))


def test_a_module_from_outside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    name = f"{Path(__file__).stem}:Halve_resnet18"
    with torch.device("meta"):
        with pytest.raises(ConfigError, match="halve names no placement of its own: give placement="):
            kinemix.create_model(name, num_classes=2)
        model = kinemix.create_model(name, num_classes=2, placement={"at": "block"})
        assert len(model.sites) == 8
        with pytest.raises(ConfigError, match="cannot be imported"):
            kinemix.create_model("no_such.module:Halve_resnet18", num_classes=2)


def test_temporalize_leaves_the_backbone_alone() -> None:
    backbone = timm.create_model("resnet18", num_classes=6).eval()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    model = kinemix.temporalize(backbone, "mstnet", num_frames=4, input_size=64, init="delta").eval()
    assert (model.num_classes, model.num_frames, model.input_spec.size) == (6, 4, (64, 64))
    assert list(backbone.state_dict()) == list(before)
    clip = torch.randn(2, 4, 3, 64, 64)
    with torch.no_grad():
        # Initialised as the identity, it gives the backbone's own answers: its weights came along.
        assert torch.equal(model(clip), backbone(clip.flatten(0, 1)).view(2, 4, 6).mean(1))


def test_temporalize_reads_what_timm_says() -> None:
    with torch.device("meta"):
        model = kinemix.temporalize(timm.create_model("inception_v3", num_classes=2), "tsm")
    assert model.input_spec.size == (299, 299)
    assert model.input_spec.mean == (0.5, 0.5, 0.5) or model.input_spec.mean == (0.485, 0.456, 0.406)


def test_temporalize_wants_one_vector_of_logits() -> None:
    with pytest.raises(ConfigError, match=r"gives \[\(1, 4, 32, 32\)\] for one frame, not one vector"):
        kinemix.temporalize(nn.Sequential(nn.Conv2d(3, 4, 1)), "tsn", input_size=32)
    with pytest.raises(ConfigError, match="unknown temporal module 'tsmm': did you mean 'tsm'"):
        kinemix.temporalize(nn.Sequential(), "tsmm")
    with pytest.raises(ConfigError, match=r"backbone is of type str: give a torch\.nn\.Module"):
        kinemix.temporalize("resnet18", "tsm")  # type: ignore[arg-type]
    with torch.device("meta"), pytest.raises(ConfigError, match=r"of type VideoModel: .*sees images"):
        kinemix.temporalize(kinemix.create_model("tsm_resnet18", num_classes=2, num_frames=2), "tsm")


def test_importing_kinemix_is_quick() -> None:
    """Neither torch nor timm is touched before a name is used."""
    import subprocess
    import sys

    code = "import sys, kinemix; print(*(m in sys.modules for m in ('torch', 'timm', 'lightning')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3
    assert set(kinemix.__all__) <= set(dir(kinemix))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = kinemix.nonsense
