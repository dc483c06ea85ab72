"""`kinemix ensemble`, named protocols and kept views on the command line."""

import json

import numpy as np
import pytest

from kinemix.cli import main
from kinemix.data.catalog.motion import make_motion
from kinemix.engine.run_directory import read_run_config
from kinemix.evaluate.foreign_scores import read_any_scores
from kinemix.evaluate.scores import read_scores

OPTIONS = [
    *("--model", "tsm_test_resnet.r160_in1k", "--size", "32", "--protocol.num_frames", "4"),
    *("--optim.epochs", "1", "--optim.batch_size", "5", "--data.workers", "0"),
    *("--machine.accelerator", "cpu", "--machine.threads", "1"),
]


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    return make_motion(folder, train_per_class=1, val_per_class=1, num_frames=8, size=32, workers=1)


@pytest.fixture(scope="module")
def run(motion, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["--protocol.name", "gsm-2clip", "--augment.flip", "on"]
    assert main(["train", str(motion), *OPTIONS, *words, "--out", str(out)]) == 0
    return out


@pytest.fixture
def kinemix(capfd):
    def call(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 6, 60)
    names = np.array([f"v{i}" for i in range(60)])
    paths = []
    for number in range(3):
        scores = generator.normal(size=(60, 6)) + 1.5 * np.eye(6)[labels]
        paths.append(tmp_path / f"stream{number}.npz")
        np.savez(paths[-1], scores=scores, labels=labels, names=names)
    return paths


# ------------------------------------------------------------------------------------------------ protocols


def test_a_name_fills_the_protocol_of_a_run(run):
    protocol = read_run_config(run).protocol
    assert (protocol.num_clips, protocol.num_crops, protocol.num_frames) == (2, 1, 4)


def test_options_beside_a_name_win(motion, tmp_path, kinemix):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("protocol:\n  num_clips: 3\n  name: tsm-2clip\n")
    words = ["--augment.flip", "off", "--config", recipe]
    code, _, errors = kinemix("train", motion, *OPTIONS, *words, "--out", tmp_path / "a")
    assert code == 0, errors
    protocol = read_run_config(tmp_path / "a").protocol
    assert (protocol.num_clips, protocol.num_crops, protocol.crop_size) == (3, 3, "short_side")
    assert "4 frames x 3 clips x 3 crops, 36 px for a network of 32 px, sparse" in errors
    words += [
        "--protocol.name=gsm-1clip",
        "--protocol.num_crops",
        "3",
    ]  # the command line's name wins over the file
    code, _, errors = kinemix("train", motion, *OPTIONS, *words, "--out", tmp_path / "b")
    assert code == 0, errors
    protocol = read_run_config(tmp_path / "b").protocol
    assert (protocol.num_clips, protocol.num_crops, protocol.crop_size) == (1, 3, "input")


def test_a_run_is_tested_by_another_protocol(run, kinemix):
    code, out, errors = kinemix("test", run, "--workers", 0, "--protocol", "mixtconv-2clip", "--keep_views")
    assert code == 0
    assert "4 frames x 2 clips, whole frames, short side 36 px, sparse" in out
    assert "mixtconv-2clip is 224 px in the paper; this network sees 32 x 32" in errors
    scores = read_scores(run / "test-held-out-mixtconv-2clip.parquet")
    assert scores.view_logits.shape == (12, 2, 12)
    np.testing.assert_allclose(scores.view_logits.mean(axis=1), scores.logits, rtol=1e-5, atol=1e-6)


def test_ten_crops_of_classes_without_mirror_image(run, motion, tmp_path, kinemix):
    code, out, _ = kinemix(
        "test", run, "--workers", 0, "--protocol", "tsn-10crop"
    )  # flip=on: none tells left
    assert code == 0
    assert "25 frames x 1 clip x 10 crops" in out
    words = ["--augment.flip_labels", "{move_left: move_right}", "--protocol.num_crops", "10"]
    code, _, errors = kinemix("train", motion, *OPTIONS, *words, "--out", tmp_path / "run")
    assert code == 2
    assert "10 crops mirror the video" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["test", "train"])
def test_unknown_names(run, motion, kinemix, verb):
    words = ["test", run, "--protocol"] if verb == "test" else ["train", motion, "--protocol.name"]
    code, _, errors = kinemix(*words, "gsm-2clips")
    assert code == 2
    assert "did you mean 'gsm-2clip'" in errors


# ------------------------------------------------------------------------------------------------ ensembles


def test_table_and_file(files, kinemix, tmp_path):
    out = tmp_path / "e.parquet"
    code, text, _ = kinemix("ensemble", *files, "--weights", 2, 1, 1, "--out", out, "--draws", 50)
    assert code == 0
    for word in ("stream0", "ensemble of 3", "top-1", "top-5", "mean class", "McNemar p", "seed 0", str(out)):
        assert word in text
    members = [read_any_scores(path) for path in files]
    wanted = np.average([m.logits.astype(float) for m in members], axis=0, weights=[2, 1, 1])
    np.testing.assert_allclose(read_scores(out).logits, wanted, rtol=1e-6, atol=1e-7)


def test_one_file_alone_and_any_two_members(files, kinemix):
    code, text, _ = kinemix("ensemble", files[0], "--draws", 20)
    assert code == 0
    assert "ensemble" not in text
    for against in ("3", "stream2"):
        words = ("--draws", 20, "--against", against, "--format", "json")
        code, text, _ = kinemix("ensemble", *files, *words)
        pairs = [(pair["first"], pair["second"]) for pair in json.loads(text)["comparisons"]]
        assert pairs == [("stream0", "stream2"), ("stream1", "stream2"), ("ensemble of 3", "stream2")]


def test_runs_are_members(run, kinemix, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    assert kinemix("test", run, "--workers", 0)[0] == 0
    scores = run / "test-held-out-4x2x1.parquet"
    (copy / scores.name).write_bytes(scores.read_bytes())
    code, text, _ = kinemix("ensemble", copy, scores, "--draws", 20)
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "1 copy: 4 frames x 2 clips x 1 crop, 32 px, sparse"
    assert lines[1] == "2 test-held-out-4x2x1: 4 frames x 2 clips x 1 crop, 32 px, sparse"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "1", "2"], "2 weights for 3 members"),
        (["--weights", "1", "x", "2"], "weights"),
        (
            ["--weights", "[1, 2, 1]"],
            "weights is '[1, 2, 1]': it must be a number, or several with blanks between",
        ),
        (["--search_on", "x.npz"], "1 files for 3 members"),
        (["--search_on", "x.npz", "--weights", "1", "1", "1"], "give one of them"),
        (["--against", "4"], "a number from 1 to 3"),
        (["--draws", "0"], "draws=0"),
        (["--average", "votes"], "'logits' or 'probabilities'"),
    ],
)
def test_mistakes(files, kinemix, words, message):
    code, _, errors = kinemix("ensemble", *files, *words)
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_tested_samples_choose_no_weight(files, kinemix):
    code, _, errors = kinemix("ensemble", *files, "--search_on", *files)
    assert code == 2
    assert "every sample of --search_on is tested too" in errors


def test_probabilities_beside_logits_are_noticed(files, kinemix, tmp_path):
    with np.load(files[0]) as file:
        powers = np.exp(file["scores"])
        np.savez(
            tmp_path / "p.npz",
            scores=powers / powers.sum(axis=1, keepdims=True),
            labels=file["labels"],
            names=file["names"],
        )
    code, _, errors = kinemix("ensemble", tmp_path / "p.npz", files[1], "--draws", 20)
    assert code == 0
    assert "p holds probabilities and stream1 does not" in errors
