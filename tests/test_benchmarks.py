"""The scripts under benchmarks/ run, at a size that says nothing about time."""

import re
import runpy
from pathlib import Path

import pytest

from kinemix.data.catalog.motion import make_motion

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [name, *arguments])
    runpy.run_path(str(BENCHMARKS / name), run_name="__main__")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(
        make_motion(
            tmp_path_factory.mktemp("motion"), grade="easy", train_per_class=1, val_per_class=1, size=32
        )
    )


def test_loader_and_decoding_alone(
    videos: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(
        "loader.py",
        videos,
        *["--clips", "8", "--turns", "2", "--size", "32", "--batch_size", "4"],
        monkeypatch=monkeypatch,
    )
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert re.fullmatch(
        r"medians of 2 turns, 2 processes: loader .*, decoding alone .* clips/s: \d+\.\d\d", printed[-1]
    )


@pytest.mark.slow
def test_training_over_the_network_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (
        "--networks small --model tsm_test_resnet.r160_in1k --frames 4 --size 32 --batch_size 4 --per_class 1"
    )
    less = "--epochs 2 --turns 2 --video_size 32 --threads 1"
    _run("training.py", *small.split(), *less.split(), monkeypatch=monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    n = r"-?\d+\.\d+"
    figures = rf"training {n}, network alone {n} clips/s: {n}; missing {n}%, waiting for data {n}%"
    assert re.fullmatch(
        rf"tsm_test_resnet.*, 4 x 4 x 32 px, 1 threads, 1 workers, medians of 2 turns: {figures}", printed[-1]
    )


@pytest.mark.slow
def test_modules_over_the_plain_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--backbone resnet18 --size 32 --frames 4 --threads 1 --rounds 1 --warmup 0"
    _run("temporal_overhead.py", *small.split(), monkeypatch=monkeypatch)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 2 * 2 * 5  # formats, passes, modules
    assert all(float(row[4]) == 1 for row in rows if row[2] == "plain")


def test_doctor_and_decoding_alone(
    videos: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("doctor.py", videos, "--limit", "3", "--turns", "1", monkeypatch=monkeypatch)
    figures = (
        r"3 videos, 72 frames, medians of 1 turns: \d+\.\d videos/s, \d+\.\d\d of the speed of decoding alone"
    )
    assert re.fullmatch(figures, capsys.readouterr().out.splitlines()[-1])
