"""Several tasks, and several labels a video, from the command line: training, testing, predicting, a submission."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score

import kinemix
from kinemix.cli import main
from kinemix.data.catalog.epic_kitchens import list_actions
from kinemix.data.miniature import build_epic, open_studio
from kinemix.engine.logbook import read_log
from kinemix.engine.run import Run
from kinemix.engine.run_directory import read_run_config
from kinemix.engine.train import train
from kinemix.evaluate.scores import read_scores
from kinemix.models.checkpoint import load_checkpoint

OPTIONS = [
    *("--model", "tsm_test_resnet.r160_in1k", "--size", 32, "--protocol.num_frames", 2),
    *("--optim.batch_size", 2, "--data.workers", 0, "--machine.accelerator", "cpu", "--machine.threads", 1),
]
TASKS = ("verb", "noun", "action")


@pytest.fixture
def kinemix_(capfd):
    """Run the command line in this process: exit code, standard output, standard error."""

    def call(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        return code, *capfd.readouterr()

    return call


def train_quietly(*words):
    assert main(["train", *map(str, (*words, *OPTIONS))]) == 0


# ----------------------------------------------------------------------------------------------- EPIC-Kitchens


@pytest.fixture(scope="module")
def epic(tmp_path_factory):
    root = tmp_path_factory.mktemp("epic")
    build_epic(root, open_studio(tmp_path_factory.mktemp("studio")))
    return root


@pytest.fixture(scope="module")
def run(epic, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "epic"
    words = ["--data.task", "all", "--optim.epochs", 1, "--optim.task_weights", "{verb: 2}"]
    train_quietly(f"epic_kitchens_55:{epic}", *words, "--out", out)
    return out


def test_all_tasks_are_trained(run):
    model, metadata = load_checkpoint(run / "last")
    assert model.description["num_classes"] == {"verb": 125, "noun": 352, "action": 2513}
    assert model.description["task_bias"] == "action"
    assert metadata["label_space"]["tasks"] == model.description["num_classes"]
    trained, validated = read_log(run)
    assert (trained["kind"], validated["kind"]) == ("train", "val")
    for record in (trained, validated):
        losses = [record[f"{task}_loss"] for task in TASKS]
        assert record["loss"] == pytest.approx((2 * losses[0] + losses[1] + losses[2]) / 4)
    assert losses == pytest.approx(np.log([125, 352, 2513]), rel=0.01), "a fresh classifier knows nothing"
    assert {f"{task}_top1" for task in TASKS} <= validated.keys()
    assert metadata["validation"]["action_top1"] == validated["action_top1"] == metadata["best"]["figure"]


def test_test_prints_and_writes_every_task(kinemix_, run):
    code, out, _ = kinemix_("test", run, "--workers", 0, "--keep_views")
    assert code == 0
    for word in ("verb", "noun", "action", "top-1", "top-5", "precision", "recall", "many-shot classes"):
        assert word in out
    figures = json.loads((run / "test-held-out-2x1x1.json").read_text())
    assert list(figures["tasks"]) == list(TASKS)
    assert all(0 <= figures["tasks"][task]["top5"] <= 1 for task in TASKS)
    scores = read_scores(run / "test-held-out-2x1x1.parquet")
    assert scores.uids == ("9",)
    assert [scores.take_task(task).labels.tolist() for task in ("verb", "noun")] == [[2], [8]]
    assert list_actions()[scores.take_task("action").labels[0]] == (2, 8)
    model, _ = load_checkpoint(run / "best")
    assert scores.logits.shape == (1, model.num_classes)


def test_a_submission_from_a_test_list(kinemix_, run, epic, tmp_path):
    file = tmp_path / "seen.json"
    words = ("--data.split", "s1", "--submission", file, "--workers", 0)
    code, out, _ = kinemix_("test", run, f"epic:{epic}", *words)
    assert code == 0
    assert "labels are not known here: no figures" in out
    assert str(file) in out.splitlines()
    content = json.loads(file.read_text())
    assert (content["version"], content["challenge"]) == ("0.1", "action_recognition")
    assert list(content["results"]) == ["1924"]
    entry = content["results"]["1924"]
    assert [len(entry[task]) for task in TASKS] == [125, 352, 100]
    scores = read_scores(Path(out.splitlines()[-1]))
    assert Path(out.splitlines()[-1]).name.endswith("-s1-2x1x1.parquet")
    for task, count in (("verb", 125), ("noun", 352)):
        logits = scores.take_task(task).logits[0]
        assert [entry[task][str(k)] for k in range(count)] == pytest.approx(logits.tolist(), abs=1e-6)
    actions = scores.take_task("action").logits[0]
    best = max(range(2513), key=lambda k: actions[k])
    assert next(iter(entry["action"])) == "{},{}".format(*list_actions()[best])
    assert set(entry["action"]) <= {f"{verb},{noun}" for verb, noun in list_actions()}
    code, _, errors = kinemix_("test", run, f"epic:{epic}", "--data.split", "s2", "--workers", 0)
    assert code == 2
    assert "kinemix data show epic_kitchens55" in errors


def test_a_submission_answers_every_segment(kinemix_, run, epic, tmp_path):
    copy = tmp_path / "epic"
    (copy / "annotations").mkdir(parents=True)
    for name in ("EPIC_train_action_labels.csv", "EPIC_test_s1_timestamps.csv"):
        (copy / "annotations" / name).write_text((epic / "annotations" / name).read_text())
    with (copy / "annotations" / "EPIC_test_s1_timestamps.csv").open("a") as file:
        file.write("1925,P01,P01_12,00:00:00.00,00:00:01.00,1,60\n")
    (copy / "P01").mkdir()
    (copy / "P01" / "P01_11.MP4").symlink_to(epic / "videos" / "test" / "P01" / "P01_11.MP4")
    words = ("--data.split", "s1", "--data.max_missing", 1, "--workers", 0)
    assert kinemix_("test", run, f"epic:{copy}", *words)[0] == 0
    code, _, errors = kinemix_("test", run, f"epic:{copy}", *words, "--submission", tmp_path / "seen.json")
    assert code == 2
    assert "1 of 2 videos are missing" in errors
    assert not (tmp_path / "seen.json").exists()


def test_predict_ranks_per_task(kinemix_, run, epic):
    video = epic / "videos" / "test" / "P01" / "P01_11.MP4"
    code, out, _ = kinemix_("predict", run, video, "--top", 3)
    assert code == 0
    assert all(task in out for task in TASKS)
    rows = list(
        csv.DictReader(io.StringIO(kinemix_("predict", run, video, "--top", 3, "--format", "csv")[1]))
    )
    assert [(row["task"], row["rank"]) for row in rows] == [(t, str(r)) for t in TASKS for r in (1, 2, 3)]
    (answer,) = json.loads(kinemix_("predict", run, video, "--top", 3, "--format", "json")[1])
    assert [p["label"] for p in answer["predictions"]] == [row["label"] for row in rows]
    recogniser = kinemix.load(run, device="cpu")
    assert "125 verb, 352 noun and 2513 action classes" in repr(recogniser)
    logits = recogniser.score(video)
    everything = recogniser.predict(video, top=10_000)
    assert len(everything) == len(logits) == 125 + 352 + 2513
    for task in TASKS:
        assert sum(p.score for p in everything if p.task == task) == pytest.approx(1, abs=1e-4)


def test_ensembles_of_every_task(kinemix_, run, epic, tmp_path):
    files = []
    for clips in (1, 2):
        words = ("--data.split", "s1", "--clips", clips, "--workers", 0)
        code, told, _ = kinemix_("test", run, f"epic:{epic}", *words)
        assert code == 0
        files.append(told.splitlines()[-1])
    out, file = tmp_path / "both.parquet", tmp_path / "seen.json"
    code, told, errors = kinemix_("ensemble", *files, "--out", out, "--submission", file)
    assert code == 0
    assert told.splitlines() == [*TASKS, str(out), str(file)]
    assert errors.count("the labels are not known here: no figures") == 3
    members = [read_scores(Path(path)) for path in files]
    together = read_scores(out)
    np.testing.assert_allclose(together.logits, np.mean([m.logits for m in members], axis=0), atol=1e-6)
    assert together.space == members[0].space
    entry = json.loads(file.read_text())["results"]["1924"]
    assert entry["noun"]["8"] == pytest.approx(float(together.take_task("noun").logits[0, 8]), abs=1e-6)
    for clips in (1, 2):
        assert kinemix_("test", run, "--clips", clips, "--workers", 0)[0] == 0
    words = (
        "ensemble",
        *(run / f"test-held-out-2x{clips}x1.parquet" for clips in (1, 2)),
        "--format",
        "json",
    )
    content = json.loads(kinemix_(*words)[1])
    assert list(content["tasks"]) == list(TASKS)
    assert content["tasks"]["noun"]["ensemble"]["count"] == 1
    content = json.loads(kinemix_(*words, "--task", "verb")[1])
    assert content["ensemble"]["count"] == 1


def test_one_task_alone_has_many_shot_figures_too(kinemix_, epic, tmp_path):
    words = ["--data.task", "noun", "--optim.epochs", 1, "--out", tmp_path / "run"]
    train_quietly(f"epic:{epic}", *words)
    code, out, _ = kinemix_("test", tmp_path / "run", "--workers", 0)
    assert code == 0
    assert "many-shot" in out
    code, _, errors = kinemix_("test", tmp_path / "run", "--submission", tmp_path / "s.json")
    assert code == 2
    assert "a submission ranks verbs and nouns" in errors


def test_a_run_is_tested_on_what_it_has_learnt(kinemix_, run, epic, tmp_path):
    code, _, errors = kinemix_("test", run, f"epic:{epic}", "--data.task", "verb", "--workers", 0)
    assert code == 2
    assert "data.task=verb: the run answers verb, noun, action together: leave it out" in errors
    code, _, errors = kinemix_(
        "train", f"epic:{epic}", *OPTIONS, "--data.task", "all", "--task_bias", "verbs"
    )
    assert code == 2
    assert "no such task: did you mean 'verb'" in errors
    code, _, errors = kinemix_("train", f"epic:{epic}", *OPTIONS, "--optim.task_weights", "{verb: 2}")
    assert code == 2
    assert "optim.task_weights: no task 'verb': there is one task only" in errors


def test_independent_tasks(epic, tmp_path):
    words = ["--data.task", "noun,verb", "--task_bias", "null", "--optim.epochs", 1]
    train_quietly(f"epic:{epic}", *words, "--out", tmp_path / "run")
    model, _ = load_checkpoint(tmp_path / "run" / "last")
    assert model.description["task_bias"] is None
    assert list(model.tasks) == ["noun", "verb"]


# --------------------------------------------------------------------------------------- tasks from a list


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Videos of any number of moving squares, and lists of them: all directions, and count and first direction."""
    return make_squares(tmp_path_factory.mktemp("squares"))


DIRECTIONS = {"down": (2, 0), "left": (0, -2), "right": (0, 2), "up": (-2, 0)}


def make_squares(folder):
    random = np.random.default_rng(0)
    several, tasks = [("video", "label")], [("video", "many", "first")]
    for number in range(20):
        chosen = sorted(random.choice(list(DIRECTIONS), number % 3, replace=False))
        places = [random.integers(4, 24, 2) for _ in chosen]
        name = f"{number:02d}.mp4"
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for frame in range(6):
                picture = np.full((32, 32, 3), 30, np.uint8)
                for place, direction in zip(places, chosen, strict=True):
                    top, left = (place + frame * np.array(DIRECTIONS[direction])) % 28
                    picture[top : top + 4, left : left + 4] = 220
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        several.append((name, "|".join(chosen)))
        tasks.append((name, str(len(chosen)), chosen[0] if chosen else "none"))
    for file, rows in (("several.csv", several), ("tasks.csv", tasks)):
        with (folder / file).open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    return folder


def test_several_tasks_resumed_equal_uninterrupted(squares, tmp_path, monkeypatch):
    words = [
        "--data.task",
        "many,first",
        "--optim.epochs",
        2,
        "--optim.batch_size",
        4,
        "--augment.flip",
        "off",
    ]
    train_quietly(squares / "tasks.csv", *words, "--out", tmp_path / "whole")
    config = replace(read_run_config(tmp_path / "whole"), out=str(tmp_path / "broken"))
    config = replace(config, protocol=replace(config.protocol, input=kinemix.InputSpec()), save_minutes=0)
    note_step = Run.note_step

    def crash(run, step):
        note_step(run, step)
        if run.position.iteration == 6:  # of four in an epoch
            raise RuntimeError("power cut")

    monkeypatch.setattr(Run, "note_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config)
    monkeypatch.undo()
    train(replace(config, resume=True))
    ours, theirs = (
        load_file(next((tmp_path / name / "last").glob("*.safetensors"))) for name in ("broken", "whole")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    logs = [read_log(tmp_path / name) for name in ("broken", "whole")]
    for kind in ("train", "val"):
        losses = [
            [{k: v for k, v in r.items() if "loss" in k} for r in log if r["kind"] == kind] for log in logs
        ]
        assert losses[0] == losses[1]
        assert "many_loss" in losses[0][0]


# ------------------------------------------------------------------------------------------- several labels


def read_rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture(scope="module")
def several(squares, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "several"
    words = ["--data.label_separator", "|", "--optim.epochs", 2, "--optim.batch_size", 4]
    train_quietly(squares / "several.csv", *words, "--out", out)
    return out


def test_several_labels_are_trained_and_tested(kinemix_, several, squares):
    records = [r for r in read_log(several) if r["kind"] == "val"]
    assert {"loss", "mean_average_precision"} <= records[-1].keys()
    code, out, _ = kinemix_("test", several, "--workers", 0)
    assert code == 0
    assert all(word in out for word in ("mAP", "average precision", "videos with it", *DIRECTIONS))
    figures = json.loads((several / "test-held-out-2x1x1.json").read_text())
    scores = read_scores(several / "test-held-out-2x1x1.parquet")
    labels = {row["video"]: row["label"] for row in read_rows(squares / "several.csv")}
    for sample, row in zip(scores.ids, scores.labels, strict=True):
        written = set(filter(None, labels[Path(sample).name].split("|")))
        assert {scores.class_names[k] for k in np.flatnonzero(row)} == written
    tested = scores.labels.any(axis=0)
    wanted = average_precision_score(scores.labels[:, tested], scores.logits[:, tested], average="macro")
    assert figures["mean_average_precision"] == pytest.approx(wanted)
    assert figures["without_positives"] == [
        name for name, any_ in zip(scores.class_names, tested, strict=True) if not any_
    ]


def test_every_label_above_the_threshold_is_named(kinemix_, several, squares):
    video = squares / "05.mp4"
    scores = kinemix.load(several, device="cpu").score(video).sigmoid()
    threshold = float(scores.median())
    words = ("predict", several, video, "--top", 1, "--threshold", threshold, "--format", "json")
    (answer,) = json.loads(kinemix_(*words)[1])
    found = answer["predictions"]
    assert [p["score"] for p in found] == sorted((p["score"] for p in found), reverse=True)
    assert {p["label"] for p in found if p["present"]} == {
        name for name, score in zip(sorted(DIRECTIONS), scores.tolist(), strict=True) if score >= threshold
    }
    assert len(found) > 1, "all that are present, not the best alone"
    code, out, _ = kinemix_("predict", several, video, "--top", 4, "--threshold", 0.99)
    assert code == 0
    assert "present" in out
    assert "yes" not in out
    code, _, errors = kinemix_("predict", several, video, "--threshold", 1.5)
    assert code == 2
    assert "threshold is 1.5" in errors


def test_several_labels_are_no_ensemble(kinemix_, several):
    assert kinemix_("test", several, "--workers", 0)[0] == 0
    for verb in ("ensemble", "compare"):
        code, _, errors = kinemix_(verb, *[several / "test-held-out-2x1x1.parquet"] * 2)
        assert code == 2
        assert "any number of labels a video: there is no accuracy to compare" in errors


def test_classes_that_no_video_has_are_told(kinemix_, several, squares, tmp_path):
    rows = [row for row in read_rows(squares / "several.csv") if "up" not in row["label"]]
    lines = [f"{squares / row['video']},{row['label']}\n" for row in rows]
    (tmp_path / "few.csv").write_text("".join(["video,label\n", *lines]))
    code, out, _ = kinemix_("test", several, tmp_path / "few.csv", "--workers", 0)
    assert code == 0
    assert "in no mean, because no video here has them: 1 class: up" in out


def test_one_label_is_not_several(kinemix_, several, squares):
    words = ("test", several, squares / "several.csv", "--workers", 0)
    assert kinemix_(*words)[0] == 0, "the run's own separator serves another list"
    code, _, errors = kinemix_(*words, "--data.label_separator", ";")
    assert code == 2
    assert "unknown class" in errors
