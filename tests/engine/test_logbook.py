"""The logbook's lines, its curves, and what is dropped on resuming."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinemix.engine.logbook import Logbook, read_log
from kinemix.engine.training_state import Position


def test_lines_and_curves_hold_the_same(tmp_path):
    with Logbook(tmp_path) as log:
        for step in range(1, 4):
            log.write("train", iteration=step, epoch=step / 3, loss=1 / step, note="x")
    assert [r["loss"] for r in read_log(tmp_path)] == [1, 1 / 2, 1 / 3]
    assert read_log(tmp_path)[0]["note"] == "x"
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [s.value for s in curves.Scalars("train/loss")] == pytest.approx([1, 1 / 2, 1 / 3])


def test_resuming_drops_what_will_be_done_again(tmp_path):
    with Logbook(tmp_path) as log:
        for step in range(1, 6):
            log.write("train", iteration=step, epoch=0, loss=float(step))
            if step == 3:
                log.write("val", iteration=step, epoch=1, loss=30.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "iter')  # a killed process
    with Logbook(tmp_path, resume_at=Position(iteration=3)) as log:
        assert [r["kind"] for r in read_log(tmp_path)] == ["train"] * 3  # the epoch's end was not saved
        log.write("train", iteration=4, epoch=0, loss=40.0)
    assert [r["loss"] for r in read_log(tmp_path)] == [1, 2, 3, 40]
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [s.value for s in curves.Scalars("train/loss")] == [1, 2, 3, 40]
