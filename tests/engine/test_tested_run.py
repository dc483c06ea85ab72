"""Tests of a run are read where they lie, and run again where they are missing or of other weights."""

import shutil
from dataclasses import replace

import torch

from kinemix.engine.measure import measure_run
from kinemix.engine.tested_run import ORDERS, open_tested_run
from kinemix.engine.train import train
from kinemix.evaluate.order_sensitivity import measure_order


def test_tests_are_run_once_and_again_for_other_weights(config, tmp_path) -> None:
    trained = replace(config, model="tsn_test_resnet.r160_in1k", optim=replace(config.optim, epochs=1))
    run = train(trained)
    there = measure_run(run, workers=0)
    written = there.scores_path.stat().st_mtime_ns
    tested = open_tested_run(run, workers=0)
    assert set(tested.tests) == set(ORDERS)
    assert there.scores_path.stat().st_mtime_ns == written
    assert torch.equal(torch.tensor(tested.scores.logits), torch.tensor(there.scores.logits))
    # An order-blind network answers reversed and shuffled frames alike.
    order = measure_order(tested.tests)
    assert order.unchanged["reverse"] == order.unchanged["shuffle"] == 1

    times = {order: file.stat().st_mtime_ns for order, file in tested.files.items()}
    open_tested_run(run, workers=0)
    assert times == {order: file.stat().st_mtime_ns for order, file in tested.files.items()}
    # As many epochs, and other weights: a run that was trained again in the same place.
    other = train(replace(trained, seed=1, out=str(tmp_path / "other")))
    shutil.rmtree(tested.folder)
    shutil.copytree(other / tested.folder.name, tested.folder)
    again = open_tested_run(run, orders=("forward",), workers=0)
    assert again.epoch == tested.epoch == 1
    assert again.files["forward"].stat().st_mtime_ns > written
    assert torch.equal(
        torch.tensor(again.scores.logits), torch.tensor(measure_run(other, workers=0).scores.logits)
    )


def test_tested_videos_are_opened_by_the_names_in_the_scores(config) -> None:
    run = train(replace(config, optim=replace(config.optim, epochs=1)))
    tested = open_tested_run(run, orders=(), workers=0)
    videos = tested.open_videos()
    with videos.open(tested.scores.ids[3]) as reader:
        assert reader.read([0, 1]).shape == (2, 3, 32, 32)
