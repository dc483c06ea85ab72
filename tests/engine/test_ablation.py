"""The papers' ablation tables on other data: plans, tables from stubbed results, and one real run."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from runs import make_record

from kinemix.cli import main
from kinemix.config import TrainConfig
from kinemix.engine import campaign
from kinemix.engine.ablation import assemble
from kinemix.engine.ablation_plan import list_trials, plan_rows
from kinemix.engine.ablation_report import list_cells, list_remarks, write_ablation
from kinemix.errors import ConfigError
from kinemix.evaluate.papers import ABLATIONS, list_ablation
from kinemix.explain.ablation_plot import plot_ablation

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1], "stem_type": "deep", "stem_width": 4}
NARROW = {"width": 0.25}
SHALLOW = {"width": 0.25, "depths": [1, 1, 1, 1]}

REDUCED = {
    ("mixtconv", "2"): ("resnet18", SMALL),
    ("mixtconv", "3"): ("resnet18", SMALL),
    ("gsm", "1"): (None, NARROW),
    ("gsm", "2"): (None, NARROW),
    ("gsm", "text of 4.3"): ("resnet18", SMALL),
    ("ctm", "1"): ("resnet18", SMALL),
    ("ctm", "2"): ("resnet18", SMALL),
    ("ctm", "3"): ("resnet18", {**SMALL, "layers": [1, 1, 6, 1]}),
    ("mtnet", "II"): (None, SHALLOW),
    ("mtnet", "VIa"): ("x3d_s", SHALLOW),
    ("mtnet", "VIb"): ("x3d_s", SHALLOW),
    ("mtnet", "VIc"): ("x3d_s", SHALLOW),
}


def small(**options):
    return TrainConfig(size=48, **{"backbone_options": SMALL, **options})


def test_every_table_has_its_reduction_here():
    assert set(REDUCED) == {(paper, table) for paper, tables in ABLATIONS.items() for table in tables}


@pytest.mark.parametrize(("paper", "table"), REDUCED)
def test_every_row_can_be_built_small(paper, table):
    """On the meta device, as :func:`plan_rows` does before anything is run."""
    backbone, options = REDUCED[paper, table]
    planned = plan_rows(paper, table, small(backbone_options=options), backbone=backbone)
    assert [one.row for one in planned] == list_ablation(paper, table)
    for one in planned:
        assert (one.model is None) == (one.row.model is None)
        assert set(one.row.model_options.items()) <= set(one.model_options.items())
    networks = {(one.model, str(one.model_options)) for one in planned if one.model}
    keys = {one.key for one in planned if one.model}
    assert len(networks) == len(keys), "runs are shared by rows of one network, and by no others"


@pytest.mark.parametrize(
    ("paper", "table", "options", "backbone", "message"),
    [
        ("mixtconv", "7", {}, None, "mixtconv has no ablation table '7': it has 2, 3"),
        ("x3d", "1", {}, None, "unknown paper 'x3d'"),
        ("mtnet", "II", {}, "resnet18", r"row '3D' is its backbone \(r3d_resnet50\).* make it smaller with"),
        (
            "gsm",
            "1",
            {},
            "resnet18",
            "row 'Branch 1' cannot be built as gsm_resnet18: branch and num_modules are for",
        ),
        ("ctm", "3", {}, "resnet18", r"row '\+ 3 CTM blocks' cannot be built .* which has 1: ask for fewer"),
        (
            "ctm",
            "1",
            {"model_options": {"redction": 2}},
            "resnet18",
            "model_options.redction: .*did you mean 'reduction'",
        ),
    ],
)
def test_what_cannot_be_says_so(paper, table, options, backbone, message):
    with pytest.raises(ConfigError, match=message):
        plan_rows(paper, table, small(**options), backbone=backbone)


def test_options_go_to_the_rows_that_take_them():
    options = {"init": "delta", "kernel_sizes": [1, 9]}
    planned = plan_rows("mixtconv", "2", small(model_options=options), backbone="resnet18")
    by_label = {one.row.label: one.model_options for one in planned}
    assert by_label["TSN (baseline)"] == by_label["TSM*"] == {}
    assert by_label["TSN+ks13"] == {"init": "delta", "kernel_sizes": (1, 3)}, "the row's own wins"
    few = plan_rows("mixtconv", "2", small(), backbone="resnet18", labels=["TSN+ks1*"])
    assert [one.row.label for one in few] == ["TSN+ks13", "TSN+ks135", "TSN+ks1357"]
    assert [one.key for one in few] == [one.key for one in planned if one.row in [f.row for f in few]]
    with pytest.raises(ConfigError, match="no row 'TSM' of our own: did you mean"):
        plan_rows("mixtconv", "2", small(), labels=["TSM"])


@pytest.fixture
def stubbed(tmp_path):
    """CTM's Table 3 with three seeds of made-up results; one run of the last row failed."""
    config = small(backbone_options={**SMALL, "layers": [1, 1, 6, 1]})
    planned = plan_rows("ctm", "3", config, backbone="resnet18")
    trials = list_trials(planned, config, directory=tmp_path, seeds=(0, 1, 2), orders=("forward", "reverse"))
    figures = {"01": (0.1, 0.2, 0.3), "02": (0.5, 0.6, 0.7), "03": (0.4, 0.5, 0.6), "04": (0.8, 0.9, 0.7)}
    records = {
        trial.name: make_record(
            figures[key[:2]][seed],
            0.1 * seed,
            parameters=12_345,
            macs=2_000_000,
            seconds=10.0 + seed,
            processor_seconds=20.0 + 2 * seed,
        )
        for (key, seed), several in trials.items()
        for trial in several
    }
    failed = next(name for name in records if name.startswith("04") and name.endswith("seed2"))
    del records[failed]
    failures = {failed: "the loss is no longer a number (x.log)"}
    return assemble(planned, trials, records, failures, config=config, directory=tmp_path, figure="top1")


def test_the_table_of_stubbed_results(stubbed):
    assert [row.printed for row in stubbed.rows] == [76.76, 78.94, 79.13, 79.15]
    second = stubbed.rows[1]
    assert second.forward == pytest.approx((50, 60, 70))
    assert second.reversed == pytest.approx((0, 10, 20))
    assert (second.parameters, second.macs, second.seconds, second.processor_seconds) == (
        *(12_345, 2_000_000, 11, 22),
    )
    assert stubbed.rows[3].forward == pytest.approx((80, 90)), "the seed that failed is left out"
    assert (stubbed.rows[3].done, stubbed.rows[3].runs) == (2, 3)
    cells = list_cells(stubbed)
    assert cells[1][2:5] == ("78.94", "60.0 ± 10.0", "10.0 ± 10.0")
    assert cells[1][5:] == ("0.012", "0.002", "11", "22", "3 of 3")
    assert (stubbed.agreement.same, stubbed.agreement.pairs) == (5, 6)
    assert stubbed.agreement.spearman == pytest.approx(0.8)  # ranks 1 3 2 4
    remarks = list_remarks(stubbed)
    assert (
        "+ 3 CTM blocks is 0.19 points above + 1 CTM block in the paper and 10.00 below it here" in remarks[1]
    )
    assert "within the spread" in remarks[1]
    assert any("seed2: the loss is no longer a number" in remark for remark in remarks)


def test_files_hold_the_same(stubbed, tmp_path):
    write_ablation(stubbed)
    page = (tmp_path / "ablation.md").read_text()
    assert "| + 1 CTM block | ctm_resnet18 num_blocks=1 | 78.94 | 60.0 ± 10.0 |" in page
    data = json.loads((tmp_path / "ablation.json").read_text())
    assert data["rows"][1]["forward_mean"] == pytest.approx(60)
    assert data["rows"][1]["forward_deviation"] == pytest.approx(statistics.stdev((50, 60, 70)))
    assert data["agreement"]["same"] == 5
    ours = plot_ablation(stubbed).axes[1]
    means = [c.lines[0].get_xdata()[0] for c in ours.containers if c.get_label() == "forward"]
    assert means == pytest.approx([20, 60, 50, 85])


def test_folds_are_pooled_by_video_and_shared_networks_run_once(tmp_path):
    config = small(backbone_options=SHALLOW)
    config = replace(config, data=replace(config.data, folds=2))
    planned = plan_rows("mtnet", "VIb", config, backbone="x3d_s", labels=["*RNN"])
    trials = list_trials(planned, config, directory=tmp_path, seeds=[0], each_split=True)
    names = [trial.name for several in trials.values() for trial in several]
    assert [name.partition("-seed0")[2] for name in names] == ["-fold-0", "-fold-1"]
    assert [Path(t.config.out).name for several in trials.values() for t in several] == names
    effort = {"seconds": 1.0, "processor_seconds": 1.0}
    records = {names[0]: make_record(1.0, count=30, **effort), names[1]: make_record(0.0, count=10, **effort)}
    table = assemble(planned, trials, records, {}, config=config, directory=tmp_path, figure="top1")
    assert [row.forward for row in table.rows] == [(75.0,), (75.0,)]
    assert [row.one_with for row in table.rows] == [None, "MTNet_S RNN"]
    assert table.agreement.rows == 1
    assert any("MTNet_M RNN is one network with MTNet_S RNN here" in remark for remark in list_remarks(table))


def test_a_figure_that_no_test_measures_is_told_before_anything_is_trained(motion, tmp_path, capsys):
    out = tmp_path / "table"
    words = [
        "ablate",
        "mixtconv",
        "3",
        str(motion),
        "--backbone",
        "resnet18",
        "--size",
        "32",
        "--out",
        str(out),
    ]
    assert main([*words, "--figure", "top2"]) == 2
    assert (
        "figure is 'top2': a test on these data does not measure that: did you mean"
        in capsys.readouterr().err
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [(["--model", "tsm_resnet18"], "--model: the rows"), (["--seed=3"], "--seed: every row")],
)
def test_options_that_a_table_fills_in_are_refused(motion, capsys, given, message):
    assert main(["ablate", "mixtconv", "3", str(motion), *given]) == 2
    assert message in capsys.readouterr().err


def test_a_real_table_and_nothing_twice(config, motion, monkeypatch, capsys):
    words = ["ablate", "mixtconv", "3", str(motion), "--backbone", "resnet18", "--size", "32"]
    words += ["--backbone_options", json.dumps(SMALL), "--protocol.num_frames", "4", "--data.workers", "0"]
    words += ["--optim.epochs", "1", "--machine.accelerator", "cpu", "--machine.threads", "1", "--jobs", "2"]
    words += ["--out", config.out, "--reverse"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "MST Block inner" in first.out
    assert "45.8" in first.out
    data = json.loads((Path(config.out) / "ablation.json").read_text())
    for row in data["rows"]:
        assert len(row["forward"]) == len(row["reversed"]) == 1
        assert row["parameters"] > 0
        assert row["seconds"] > 0
        assert row["processor_seconds"] > 0
    run = Path(config.out) / "01-mst-block-inner-seed0"
    (test,) = run.glob("test-held-out-*-last.json")
    assert data["rows"][0]["forward"] == pytest.approx([100 * json.loads(test.read_text())["top1"]])

    def start(trial):
        raise AssertionError(f"{trial.name} is done")

    monkeypatch.setattr(campaign, "make_command", start)
    assert main(words) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert main([*words, "--optim.epochs", "2"]) == 2
    assert "the run was started with optim.epochs = 1, not 2" in capsys.readouterr().err
