"""Recipes: every row has one or a reason, every one parses, says the truth about itself, and (slow) runs."""

import json
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from kinemix import config_file
from kinemix.cli import main
from kinemix.cli.training import read_train_options
from kinemix.config import from_dict, to_dict
from kinemix.config_file import find_config_file, list_recipe_names, read_config_files
from kinemix.engine.recipe_check import check_recipe
from kinemix.engine.recipe_header import (
    COUNTED,
    NOT_RUN,
    estimate_hours,
    judge_status,
    list_facts,
    make_header,
    read_header,
)
from kinemix.engine.recipe_list import list_entries
from kinemix.engine.recipes import explain_lack, list_recipes, list_rows_without_recipe, read_recipe_config
from kinemix.engine.settle import build_model, settle_config
from kinemix.errors import ConfigError
from kinemix.evaluate.papers import list_rows

RECIPES = list_recipes()
NAMES = [recipe.name for recipe in RECIPES]
ROOT = Path(__file__).parents[2]


# ------------------------------------------------------------------------------------------- what there is


def test_every_row_has_a_recipe_or_a_reason():
    trained = {test.row.key for recipe in RECIPES for test in recipe.tests}
    for row in list_rows():
        assert (row.key in trained) != bool(explain_lack(row)), row.key
    lacking = list_rows_without_recipe()
    assert all(reason for _, reason in lacking)
    assert {row.paper for row, _ in lacking} == {"mixtconv", "gsm", "ctm", "mtnet", "x3d"}
    assert {test.row.paper for recipe in RECIPES for test in recipe.tests} == {
        "mixtconv",
        "gsm",
        "ctm",
        "mtnet",
    }


def test_no_row_is_trained_twice():
    """Rows that print figures of two datasets are trained once on each."""
    trained = Counter((test.row.key, recipe.dataset) for recipe in RECIPES for test in recipe.tests)
    assert set(trained.values()) == {1}


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_trains_the_network_of_its_rows(recipe):
    """Model, options, frames and size are the rows'; datasets too, and the test's views what the row prints."""
    config = read_recipe_config(recipe.name)
    for test in recipe.tests:
        row = test.row
        same = [name.replace("mixtconv_", "mstnet_") for name in (config.model, row.model)]
        assert same[0] == same[1], row.key
        assert config.protocol.num_frames == row.num_frames, row.key
        defaults = {"kernel_sizes": [1, 3, 5, 7], "placement": "head", "branch": 4, "num_modules": 10}
        defaults |= {"gate": "tanh", "stage": 4, "num_blocks": 3, "delta": 0.875, "cell": "gru"}
        defaults |= {"pooling": "soft", "frame_selection": True}
        wanted = {k: list(v) if isinstance(v, tuple) else v for k, v in row.model_options.items()}
        for name in {*wanted, *config.model_options}:
            one = config.model_options.get(name, defaults.get(name))
            assert one == wanted.get(name, defaults.get(name)), (row.key, name)
        assert recipe.kind is not None
        assert any(
            name in row.dataset or row.dataset.startswith(name[:-1]) for name in recipe.kind.facts.paper_names
        )
        if row.paper != "mixtconv":  # whose Table 1 tests at 256 what was trained at 224
            assert (config.size or 224) == row.size, row.key


# --------------------------------------------------------------------------------------------- files, options


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_parses_and_settles(recipe):
    """The command line and the library read the same options."""
    words = [
        f"{recipe.dataset}:/nowhere" if recipe.dataset else "/nowhere",
        "--config",
        f"recipe:{recipe.name}",
    ]
    given = read_train_options(words)
    config = settle_config(given)
    ours = read_recipe_config(recipe.name)
    there = to_dict(given)
    there["data"]["source"] = ""
    assert there == json.loads(json.dumps(to_dict(from_dict(type(given), to_dict(ours)))))
    assert config.optim.lr_batch in (None, config.optim.batch_size * config.optim.accumulate)
    assert len(recipe.path.read_text().splitlines()) < 50


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.tests], ids=[r.name for r in RECIPES if r.tests])
def test_the_header_is_current(recipe):
    """All of it but what has to be counted (see the slow test): kinemix recipes headers writes it anew."""
    header = read_header(recipe.path)
    assert header.keys() - {"deviates"} == {"rows", "train", "test", "expected", "estimate", "status"}
    facts = list_facts(recipe, read_recipe_config(recipe.name))
    assert {field: header.get(field, ()) for field in facts} == facts
    assert header["status"][0] in (NOT_RUN, f"{COUNTED}; {NOT_RUN}")
    assert "hours on one NVIDIA A100, from multiply-adds, not measured" in header["estimate"][0]
    if recipe.start is not None:
        assert recipe.start in NAMES


def test_one_estimate_by_hand():
    """TSN, ResNet-50, 8 frames: 32.70 GMACs, 86017 videos in batches of 64 for 50 epochs, at 10 T a second."""
    (recipe,) = [recipe for recipe in RECIPES if recipe.name == "mixtconv/sthv1-tsn-8f"]
    config = read_recipe_config(recipe.name)
    with torch.device("meta"):
        model = build_model(config, num_classes=174, pretrained=False)
    hours = 3 * 32.70e9 * (86017 // 64 * 64) * 50 / 10e12 / 3600
    assert estimate_hours(recipe, config, model) == pytest.approx(hours, rel=1e-3)
    assert judge_status(recipe) == f"{COUNTED}; {NOT_RUN}"


def test_files_build_on_others(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "optim: {lr: 1, epochs: 3}\nmodel: tsm_resnet18\nrecipe: {dataset: jester}\n"
    )
    (tmp_path / "two.yaml").write_text("base: one\noptim: {lr: 2}\n")
    (tmp_path / "three.yaml").write_text("base: [two, 'recipe:small_gestures']\nmodel: tsn_resnet18\n")
    files = read_config_files(tmp_path / "three.yaml")
    assert [file.path.name for file in files] == ["one.yaml", "two.yaml", "small_gestures.yaml", "three.yaml"]
    config = read_train_options(["data", "--config", str(tmp_path / "two.yaml"), "--optim.epochs", "7"])
    assert (config.model, config.optim.lr, config.optim.epochs) == ("tsm_resnet18", 2, 7)
    assert read_train_options(["data", "--config", str(tmp_path / "three.yaml")]).model == "tsn_resnet18"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: loop\n", "builds on itself"),
        ("base: nothing\n", r"nothing\.yaml: cannot be read as a config file"),
        ("base: {a: 1}\n", "base is {'a': 1}: it must be the name of a file"),
        ("base: 'recipe:gsm/sthv1-bninceptoin-8f'\n", "did you mean 'gsm/sthv1-bninception-8f'"),
        ("base: 'recipe:gsm/_base'\n", "no recipe 'gsm/_base'"),
    ],
)
def test_files_that_cannot_build(tmp_path, text, message):
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_train_options(["data", "--config", str(path)])


def test_recipes_travel_in_the_wheel(tmp_path, monkeypatch):
    """They are packed as kinemix/_recipes, and found there before those of a clone."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"recipes": "kinemix/_recipes"}
    assert config_file._FOLDERS == (ROOT / "src/kinemix/_recipes", ROOT / "recipes")
    (tmp_path / "ours").mkdir()
    shutil.copy(ROOT / "recipes" / "small_gestures.yaml", tmp_path / "ours" / "mine.yaml")
    monkeypatch.setattr(config_file, "_FOLDERS", (tmp_path / "ours", ROOT / "recipes"))
    assert list_recipe_names() == ["mine"]
    assert find_config_file("recipe:mine") == tmp_path / "ours" / "mine.yaml"


# ------------------------------------------------------------------------------------------------- the verb


def test_list_and_filters(capsys):
    def listed(*words):
        assert main(["recipes", "list", "--format", "json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    everything = listed()
    assert len(everything) == len(list_entries()) > 280
    assert {e["row"] for e in everything if e["recipe"] == "gsm/sthv1-inceptionv3-12f"} == {
        "GSM InceptionV3 (12)",
        "GSM InceptionV3 (12x2)",
    }
    (one,) = [e for e in everything if e["row"] == "GSM InceptionV3 (12x2)"]
    assert (one["views"], one["expected"], one["dataset"]) == (
        "12 x 2 x 1",
        "top-1 51.98, top-5 79.99",
        "something_something_v1",
    )
    assert {e["dataset"] for e in listed("--paper", "ctm", "--dataset", "HMDB51")} == {"hmdb51"}
    verified = listed("--status", "verified here")
    networks = ("gsm_bn_inception", "gsm_inception_v3", "mtnet_s", "r2plus1d", "r3d", "x3d_s")
    assert [e["recipe"] for e in verified] == [*(f"motion/{name}" for name in networks), "small_gestures"]
    assert all("not built here" in e["status"] for e in listed("--status", "a network of others"))
    assert main(["recipes", "list", "--paper", "gsm"]) == 0
    assert "gsm/sthv1-bninception-sigmoid-8f" in capsys.readouterr().out
    assert main(["recipes", "list", "--dataset", "imagenet"]) == 2


def test_show_prints_the_file_and_what_it_builds_on(capsys):
    assert main(["recipes", "show", "mixtconv/sthv1-mstnet-8f"]) == 0
    out = capsys.readouterr().out
    texts = [line for line in out.splitlines() if line.startswith("--- ")]
    assert [Path(text[4:]).name for text in texts] == ["sthv1-mstnet-8f.yaml", "_sthv1.yaml", "_base.yaml"]
    assert "kinemix train something_something_v1:ROOT --config recipe:mixtconv/sthv1-mstnet-8f" in out
    assert yaml.safe_load(out.partition("_base.yaml\n")[2])["optim"]["batch_size"] == 64
    assert main(["recipes", "show", "mixtconv/sthv1-mstnet"]) == 2
    assert "did you mean 'mixtconv/sthv1-mstnet-8f'" in capsys.readouterr().err


def test_check_runs_two_steps(capsys):
    assert main(["recipes", "show", "small_gestures", "--paper", "ctm"]) == 2
    assert main(["recipes", "gsm/sthv1-mine"]) == 2
    assert "'kinemix recipes show gsm/sthv1-mine' prints that recipe" in capsys.readouterr().err
    assert main(["recipes", "list", "nonsense"]) == 2
    assert "no row matches" in capsys.readouterr().err
    assert main(["recipes", "show", "gsm/sthv1"]) == 2
    assert "did you mean 'gsm/sthv1-" in capsys.readouterr().err
    assert main(["recipes", "check", "*", "--status", "verified here", "--dataset", "kinetics400"]) == 0
    assert "0 of 0 recipes work" in capsys.readouterr().out
    assert main(["recipes", "check", "small_gestures"]) == 0
    out = capsys.readouterr().out
    assert "works" in out
    assert "1 of 1 recipes work" in out


# ----------------------------------------------------------------------------------------------------- slow


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_a_recipe_runs(recipe, tmp_path):
    assert len(check_recipe(recipe, tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.tests], ids=[r.name for r in RECIPES if r.tests])
def test_hours_and_status_are_current(recipe):
    header = make_header(recipe)
    assert read_header(recipe.path)["estimate"] == header.estimate
    assert read_header(recipe.path)["status"] == header.status
