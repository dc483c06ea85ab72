"""The logbook's lines, and what is dropped on resuming."""

from kinemix.engine.logbook import Logbook, read_log
from kinemix.engine.training_state import Position


def test_a_line_a_record(tmp_path):
    with Logbook(tmp_path) as log:
        records = [
            log.write("train", iteration=step, epoch=step / 3, loss=1 / step, note="x")
            for step in range(1, 4)
        ]
    assert read_log(tmp_path) == records
    assert [r["loss"] for r in records] == [1, 1 / 2, 1 / 3]
    assert records[0]["note"] == "x"


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
