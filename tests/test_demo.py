"""The demo's own arithmetic; the whole of it is `make demo`."""

import json
from pathlib import Path

import pytest

from kinemix import demo
from kinemix.errors import ConfigError


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip of each class and one epoch: everything runs, nothing is learned."""
    monkeypatch.setattr(demo, "TRAIN_PER_CLASS", 2)
    monkeypatch.setattr(demo, "VAL_PER_CLASS", 1)
    build = demo.build_config
    from dataclasses import replace

    def build_short(*args: object, **options: object) -> object:
        config = build(*args, **options)
        return replace(config, optim=replace(config.optim, epochs=1, warmup_epochs=0))

    monkeypatch.setattr(demo, "build_config", build_short)


def test_the_demo_writes_its_summary_and_page_and_is_quick_the_second_time(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = demo.run_demo(out=tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {"plain (TSN)", "MSTNet"}
    for title, outcome in outcomes.items():
        assert {"accuracy", "accuracy_reversed", "opposite_share"} <= summary[title].keys()
        assert summary[title]["accuracy"] == outcome.accuracy
    plain = outcomes["plain (TSN)"]
    # Whatever it has learned: both videos of a pair hold the same frames, and reversing changes no answer.
    assert plain.accuracy <= 0.5
    assert plain.unchanged_share == 1
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 3  # the videos, the curves, order
    assert page.count('class="confusion"') == 2
    assert "Classes that need order" in page
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/last/*")}
    capsys.readouterr()
    assert demo.run_demo(out=tmp_path) == outcomes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/last/*")} == runs
    assert "MSTNet" in capsys.readouterr().out


def test_a_mistyped_network_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'tsm_resnet81'"):
        demo.run_demo(out=tmp_path / "demo", models=["tsn_resnet18", "tsm_resnet81"])
    assert not (tmp_path / "demo").exists()
