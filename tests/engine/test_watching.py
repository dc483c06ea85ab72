"""What is told of a run while it goes: the bar, and memory in it and in the log."""

import multiprocessing

import pytest
import torch

from kinemix.engine import memory as memory_module
from kinemix.engine.logbook import read_log
from kinemix.engine.memory import MemoryMeter, measure_processes
from kinemix.engine.progress import ProgressBar
from kinemix.engine.train import train

LARGE = 200_000_000


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def test_the_bar_tells_rate_waiting_memory_and_time_left(terminal, capfd):
    with ProgressBar(total=8, done=2) as bar:
        for waiting in (0.0, 0.5, 1.0):
            bar.advance(
                epoch=2, epochs=3, loss=1.25, clips=10, seconds=2.0, waiting=waiting, memory="1.5 of 80.0 GB"
            )
    told = capfd.readouterr().err
    assert "epoch 2/3" in told
    assert "5/8" in told
    assert "loss 1.250  5.0 clips/s  waiting for data 25%  memory 1.5 of 80.0 GB" in told
    assert "left" in told


def test_every_step_of_the_log_tells_the_memory(config):
    run = train(config)
    held = [record["memory"] for record in read_log(run) if record["kind"] == "train"]
    assert len(held) == 12
    assert held[-1] == pytest.approx(measure_processes() / 1e9, rel=0.5)


def hold(ready, done):
    block = torch.ones(LARGE, dtype=torch.uint8)
    ready.set()
    done.wait(60)
    assert block[0] == 1


def test_pages_of_child_processes_count_and_shared_ones_once():
    shared = torch.ones(LARGE, dtype=torch.uint8)  # a forked child's too, until it writes
    before = measure_processes()
    fork = multiprocessing.get_context("fork")
    ready, done = fork.Event(), fork.Event()
    child = fork.Process(target=hold, args=(ready, done))
    child.start()
    try:
        assert ready.wait(60)
        grown = measure_processes() - before
    finally:
        done.set()
        child.join()
    assert LARGE * 0.9 < grown < LARGE * 1.7, "the child's own block, and not the parent's once more"
    assert shared[0] == 1


def test_processes_are_looked_at_for_a_hundredth_of_the_time_at_most(monkeypatch):
    now, looks = [0.0], []

    def look():
        looks.append(now[0])
        now[0] += 0.25
        return 5_000_000_000

    monkeypatch.setattr(memory_module, "measure_processes", look)
    meter = MemoryMeter(torch.device("cpu"), clock=lambda: now[0])
    while now[0] < 100:
        assert meter.describe() == "5.0 GB"
        now[0] += 0.5
    assert looks[0] == 0
    assert len(looks) * 0.25 / now[0] <= 0.0125
    assert len(looks) == 4


def test_an_accelerator_is_asked_for_what_torch_holds_of_it(monkeypatch):
    """On a stand-in for one: what is free is not what matters, since torch keeps what it has had."""
    device = torch.device("cuda", 1)
    monkeypatch.setattr(
        torch.accelerator, "get_memory_info", lambda asked: (7, {device: 80_000_000_000}[asked])
    )
    monkeypatch.setattr(torch.accelerator, "memory_reserved", lambda asked: {device: 21_400_000_000}[asked])
    meter = MemoryMeter(device)
    assert meter.read() == 21_400_000_000
    assert meter.describe() == "21.4 of 80.0 GB"
