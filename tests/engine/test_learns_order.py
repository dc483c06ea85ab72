"""Every temporal module and network learns order from real video files; without a module it cannot be learned."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinemix import demo
from kinemix.config import TrainConfig
from kinemix.engine.recipes import list_recipes, read_recipe_config
from kinemix.engine.tested_run import open_tested_run
from kinemix.engine.train import train
from kinemix.temporal import shelf

# The cut-down ResNet has room for one block of CTM, whose paths start at zero: at 24 epochs it is half-way.
EPOCHS = {"ctm": 48}

# Half of the videos have a twin that holds the same frames in the opposite order.
CHANCE = 0.55


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all networks, so that the videos are made once; KINEMIX_DEMO keeps it between sessions."""
    kept = os.environ.get("KINEMIX_DEMO")
    return Path(kept) if kept else tmp_path_factory.mktemp("demo")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("module", shelf.names())
def test_motion_easy(folder: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, build = f"{module}_resnet18", demo.build_config

    def build_longer(*args: Any, **options: Any) -> TrainConfig:
        config = build(*args, **options)
        return replace(config, optim=replace(config.optim, epochs=EPOCHS.get(module, config.optim.epochs)))

    monkeypatch.setattr(demo, "build_config", build_longer)
    outcome = demo.run_demo(out=folder, models=[model])[model]
    if shelf.get(module).sees_time:
        assert outcome.accuracy >= 0.90
        assert outcome.opposite_share >= 0.90
    else:
        assert outcome.accuracy <= CHANCE
        assert outcome.unchanged_share == 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("recipe", [r.name for r in list_recipes() if r.name.startswith("motion/")])
def test_networks_of_the_papers(folder: Path, recipe: str) -> None:
    config, out = read_recipe_config(recipe), folder / "runs" / recipe
    videos = demo.make_videos(folder / "motion")
    data = replace(config.data, source=str(videos), cache=str(folder / "frames"))
    trained = train(
        replace(config, data=data, out=str(out), resume=(out / "config.yaml").is_file()), quiet=True
    )
    outcome = demo.sum_up(config.model, open_tested_run(trained, checkpoint="last", workers=1))
    assert outcome.accuracy >= 0.90
    assert outcome.opposite_share >= 0.90
