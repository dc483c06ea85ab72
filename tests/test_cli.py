"""Every verb on a miniature dataset, and every mistake: one line, exit code 2, no traceback."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest
import yaml

from kinemix import __version__
from kinemix.cli import VERBS, main
from kinemix.data.catalog.motion import make_motion
from kinemix.engine.run_directory import read_run_config

MODEL = "tsm_test_resnet.r160_in1k"
OPTIONS = [
    *("--model", MODEL, "--size", "32", "--protocol.num_frames", "4", "--augment.flip", "off"),
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
    assert main(["train", str(motion), *OPTIONS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def kinemix(capfd):
    """Run the command line in this process: exit code, standard output, standard error."""

    def call(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def refuse(kinemix):
    """Run it, expect one line that names the mistake, and return that line."""

    def call(*words):
        code, out, errors = kinemix(*words)
        assert code == 2
        assert out == ""
        assert "Traceback" not in errors
        (line,) = [line for line in errors.splitlines() if line.startswith("kinemix: error: ")]
        assert errors.splitlines()[-1] == line
        return line

    return call


# ----------------------------------------------------------------------------------------------- the verbs


def test_train_prints_its_directory(kinemix, motion, tmp_path):
    code, out, errors = kinemix("train", motion, *OPTIONS, "--out", tmp_path / "run")
    assert (code, out.strip()) == (0, str(tmp_path / "run"))
    assert "validation top-1" in errors
    assert "(4 frames x 1 clip x 1 crop, 32 px, sparse)" in errors


def test_yaml_and_command_line(kinemix, motion, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    values = {
        "data": {"source": str(motion), "workers": 0},
        "model": "mixtconv_test_resnet.r160_in1k",
        "model_options": {"kernel_sizes": [1, 5]},
        "size": 32,
        "protocol": {"num_frames": 4},
        "augment": {"flip": "off"},
        "optim": {"lr": 1e-4, "epochs": 3, "milestones": [1, 2]},
        "machine": {"accelerator": "cpu", "threads": 1, "precision": 32},
    }
    recipe.write_text(yaml.safe_dump(values).replace("'off'", "off"))
    words = ["--optim.epochs", "1", "--model_options.kernel_sizes", "[1, 3]", "--config", recipe]
    code, _, errors = kinemix("train", *words, "--out", tmp_path / "run")
    assert code == 0, errors
    config = read_run_config(tmp_path / "run")
    assert (config.optim.epochs, config.optim.lr, config.optim.milestones) == (1, 1e-4, (1.0, 2.0))
    assert (config.augment.flip, config.machine.precision) == ("off", "32")
    assert config.model_options == {"kernel_sizes": [1, 3]}


def test_resume_needs_the_directory_alone(kinemix, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    code, out, errors = kinemix("train", "--resume", "--out", copy)
    assert (code, out.strip()) == (0, str(copy))
    assert f"nothing left to do: 1 of 1 epochs are done in {copy}" in errors
    shutil.rmtree(copy / "last")
    shutil.copytree(copy / "best", copy / "last")
    code, _, errors = kinemix("train", "--resume", "--out", copy)
    assert code == 2
    assert "holds no state to resume from" in errors


def test_test_prints_figures_with_their_protocol(kinemix, run, motion):
    code, out, _ = kinemix("test", run, "--workers", 0)
    assert code == 0
    for word in ("4 frames x 1 clip x 1 crop, 32 px, sparse", "top-1", "mean class", "confusion", "grow"):
        assert word in out
    code, out, _ = kinemix(
        "test", run, motion, "--reverse", "--clips", 2, "--crops", 3, "--workers", 0, "--checkpoint", "last"
    )
    assert "4 frames x 2 clips x 3 crops, 32 px, sparse, frames reversed" in out
    name = Path(out.splitlines()[-1]).stem
    assert name.startswith(f"test-{motion.name}-")
    assert name.endswith("-4x2x3-last-reverse")
    assert (run / f"{name}.parquet").exists()
    figures = json.loads((run / f"{name}.json").read_text())
    assert figures["count"] == 12
    assert figures["order"] == "reverse"


@pytest.mark.parametrize(
    "words",
    [
        ("doctor", "DATA", "--html"),
        ("doctor", "DATA", "--json"),
        ("data", "check", "jester", "DATA", "--missing"),
        ("list", "--support", "--markdown"),
        ("complexity", "--papers", "--markdown"),
        ("ensemble", "no_scores.parquet", "--out"),
        ("ensemble", "no_scores.parquet", "--submission"),
        ("test", "no_run", "--submission"),
    ],
    ids=" ".join,
)
def test_files_that_cannot_be_written_are_told_before_the_work(refuse, motion, tmp_path, words):
    words = [motion if word == "DATA" else word for word in words]
    assert "is a folder: name a file in it" in refuse(*words, tmp_path)
    assert f"there is no folder {tmp_path / 'no'}: make it first" in refuse(*words, tmp_path / "no" / "file")


def test_tests_of_other_samples_or_views_do_not_overwrite_each_other(kinemix, run, motion, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("test-*"))
    tests = {
        (12, "sparse", 1): (),
        (9, "sparse", 1): ("--data.exclude_labels=[grow, shrink, part]",),
        (12, "dense", 10): ("--protocol", "mtnet-10x3", "--crops", 1),
        (12, "dense", 2): ("--protocol", "mtnet-10x3", "--crops", 1, "--clips", 2),
    }
    for words in tests.values():
        code, _, errors = kinemix("test", copy, motion, "--workers", 0, *words)
        assert code == 0, errors
    figures = [json.loads(path.read_text()) for path in copy.glob("test-*.json")]
    found = {(f["count"], f["protocol"]["sampling"], f["protocol"]["num_clips"]) for f in figures}
    assert (found, len(figures)) == (set(tests), len(tests))
    assert {"exclude_labels": ["grow", "shrink", "part"]} in [f["data_options"] for f in figures]


def test_predict_in_three_formats(kinemix, run, motion):
    files = sorted((motion / "val").rglob("*.mp4"))[:2]
    code, out, _ = kinemix("predict", run, *files, "--top", 3)
    assert code == 0
    assert all(str(file) in out for file in files)
    code, out, _ = kinemix("predict", run, *files, "--top", 3, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    code, out, _ = kinemix("predict", run, *files, "--top", 3, "--format", "json")
    answers = json.loads(out)
    assert [a["file"] for a in answers] == [str(file) for file in files]
    assert [p["label"] for a in answers for p in a["predictions"]] == [row["label"] for row in rows]


def test_predict_reads_names_from_a_list(kinemix, run, motion, tmp_path, monkeypatch):
    files = sorted((motion / "val").rglob("*.mp4"))[:4]
    words = ("--format", "json", "--workers", 2)
    code, expected, _ = kinemix("predict", run, *files, *words)
    assert code == 0
    assert [answer["file"] for answer in json.loads(expected)] == [str(file) for file in files]
    names = "".join(f"{file}\n" for file in files[2:])
    (tmp_path / "names.txt").write_text(f"\n{names}\n")
    assert kinemix("predict", run, *files[:2], "--list", tmp_path / "names.txt", *words)[1] == expected
    monkeypatch.setattr("sys.stdin", io.StringIO(names))
    assert kinemix("predict", run, *files[:2], "--list", "-", *words)[1] == expected


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_predict_goes_on_after_a_bad_file(kinemix, run, motion, tmp_path, form):
    good = sorted((motion / "val").rglob("*.mp4"))[0]
    (tmp_path / "bad [1].mp4").write_bytes(b"no video")
    code, out, errors = kinemix("predict", run, tmp_path / "bad [1].mp4", good, "--format", form)
    assert code == 2
    assert good.name in out
    assert len(errors.splitlines()) == 1
    assert "bad [1].mp4" in errors
    if form == "csv":
        bad, *rows = csv.DictReader(io.StringIO(out))
        assert Path(bad["file"]).name == "bad [1].mp4"
        assert bad["error"] in errors
        assert {name for name, value in bad.items() if value} == {"file", "error"}
        assert [row["error"] for row in rows] == [""] * 5


def test_inspect(kinemix):
    code, out, _ = kinemix("inspect", "mixtconv_resnet18", "--model_options.kernel_sizes", "[1, 3]")
    assert code == 0
    assert "before layer4.1.conv1" in out
    assert "8 sites" in out
    code, out, _ = kinemix("inspect", "tsm_resnet18", "--size", 64, "--num_classes", 7, "--format", "json")
    facts = json.loads(out)
    assert (facts["num_classes"], facts["input_size"]) == (7, [64, 64])


def test_models(kinemix):
    code, out, _ = kinemix("models", "tsm_resnet1*")
    assert code == 0
    assert "tsm_resnet18" in out.splitlines()


def test_motion(kinemix, tmp_path):
    words = ["--train_per_class", 1, "--val_per_class", 1, "--num_frames", 8, "--size", 32]
    code, out, _ = kinemix("motion", tmp_path / "made", *words)
    assert (code, out.strip()) == (0, str(tmp_path / "made"))
    assert len(list((tmp_path / "made").rglob("*.mp4"))) == 24


def test_dashes_and_underscores_name_the_same_option(kinemix, tmp_path):
    words = ("--train-per-class", 1, "--val-per-class=1", "--num_frames", 8, "--size", 32)
    code, _, errors = kinemix("motion", tmp_path, *words)
    assert code == 0, errors
    assert len(list(tmp_path.glob("*/*/*.mp4"))) == 24


def test_version_and_help(kinemix):
    assert kinemix("--version") == (0, f"kinemix {__version__}\n", "")
    code, out, _ = kinemix("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)
    assert kinemix()[0] == 2


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(capfd, verb):
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    out = capfd.readouterr().out
    assert f"usage: kinemix {verb}" in out
    assert not re.search(r"Optional|Literal|Union|type:|\bstr\b|\bint\b|tuple", out)  # words, not Python


def test_help_does_not_wait_for_torch():
    code = "import sys\nfrom kinemix.cli import main\n"
    code += "try: main(['train', '--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_as_a_module_and_into_a_closed_pipe():
    command = f"{sys.executable} -m kinemix models; echo $? >&2"
    done = subprocess.run(f"({command}) | head -n 1", shell=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr.split() == ["141"]


def test_nobody_reads_a_table(run, monkeypatch):
    """rich would end the process with exit code 1."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["test", str(run), "--workers", "0"]) == 141


def test_closed_streams(tmp_path):
    command = f"{sys.executable} -m kinemix nosuch"
    for redirection, told in (("", "unknown verb"), (" >&-", "output is closed"), (" >&- 2>&-", "")):
        done = subprocess.run(command + redirection, shell=True, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
        assert done.stderr.count("\n") == bool(told)
    subprocess.run(f"({command}; echo $? > {tmp_path}/code) 2>&1 | true", shell=True, check=True)
    assert (tmp_path / "code").read_text() == "2\n"


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["unknown verb 'trian'", "'train'"]),
        (["train", "X", "--optim.lrr", "1"], ["--optim.lrr", "'optim.lr'"]),
        (["train", "X", "--lr", "1"], ["--lr", "'optim.lr'"]),
        (["train", "X", "--optim.learning_rate", "1"], ["--optim.learning_rate", "'optim.lr'"]),
        (["train", "X", "--model_optoins.fold", "4"], ["--model_optoins.fold", "'model_options.fold'"]),
        (
            ["train", "X", "--data.exclude_labels", "3"],
            ["data.exclude_labels is '3'", "a list such as [a, b]"],
        ),
        (["train", "X", "--size", "1"], ["size is 1", "2 pixels or more"]),
        (["train", "X", "--machine.precision", "16-mixed", "--machine.accelerator", "cpu"], ["bf16-mixed"]),
        (
            ["train", "X", "--machine.devices", "999", "--machine.accelerator", "cpu"],
            ["devices is 999", "cores"],
        ),
        (["train", "X", "--optim.lr", "fast"], ["optim.lr is 'fast'", "a number"]),
        (["train", "X", "--optim.lr"], ["optim.lr", "expected one argument"]),
        (["train", "X", "--optim.name", "adam"], ["optim.name is 'adam'", "'sgd' or 'adamw'"]),
        (["train", "X", "--protocol.num_frames", "8.5"], ["num_frames is '8.5'", "a whole number"]),
        (["train", "X", "--protocol.num_crops", "5"], ["num_crops is '5'", "1 or 3 or 10"]),
        (["train", "X", "--size", "[1,2,3]"], ["size is '[1, 2, 3]'", "a list of 2"]),
        (["train", "X", "--resume", "yes please"], ["resume is 'yes please'", "true or false"]),
        (
            ["train", "--profile", "."],
            ["profile is '.'", "--profile took what stands behind it: put that first"],
        ),
        (["train", "X", "--protocol.input.size", "64"], ["--protocol.input.size", "'size'"]),
        (["train", "X", "Y"], ["'Y'", "too many"]),
        (["train"], ["no data"]),
        (["train", "X", "--config"], ["--config needs a file"]),
        (["train", "X", "--config", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["test"], ["RUN must be given"]),
        (["test", "nowhere"], ["nowhere: no such run"]),
        (["test", "X", "--crops", "2"], ["crops is '2'", "1 or 3 or 10"]),
        (["test", "X", "--reverse", "--shuffle"], ["give one of them"]),
        (["predict", "nowhere", "a.mp4"], ["nowhere: no such run"]),
        (["predict", "X"], ["FILES must be given"]),
        (["predict", "X", "--list", "nowhere.txt"], ["--list nowhere.txt: cannot be read (No such file"]),
        (["predict", "X", "a.mp4", "--format", "xml"], ["format is 'xml'", "'table' or 'json' or 'csv'"]),
        (["inspect", "tsm_resnet51"], ["unknown model 'tsm_resnet51'", "resnet50"]),
        (["inspect", "tms_resnet50"], ["unknown model 'tms_resnet50'", "tsm"]),
        (["models", "no*such"], ["no model matches 'no*such'"]),
        (["motion", "X", "--grade", "harder"], ["grade is 'harder'", "'easy' or 'medium' or 'hard'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words(refuse, words, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refuse(*words)
    assert all(part in line for part in parts), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("optim: {lrr: 1}", ["recipe.yaml", "'optim.lrr'", "'optim.lr'"]),
        ("optimm: {lr: 1}", ["recipe.yaml", "'optimm'"]),
        ("optim: 3", ["optim is 3", "group"]),
        ("optim: {lr: fast}", ["optim.lr is 'fast'", "a number"]),
        ("- 3", ["recipe.yaml", "option: value"]),
        ("optim: [", ["recipe.yaml", "no YAML"]),
    ],
)
def test_yaml_mistakes(refuse, tmp_path, text, parts):
    (tmp_path / "recipe.yaml").write_text(text)
    line = refuse("train", "X", "--config", tmp_path / "recipe.yaml")
    assert all(part in line for part in parts), line


def make_audio(path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))


@pytest.mark.parametrize("text", ["optim: {lr: [", "", "lrr: 3"], ids=["no YAML", "empty", "unknown"])
def test_a_broken_config_of_a_run(refuse, run, tmp_path, text):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "config.yaml").write_text(text)
    line = refuse("train", "--resume", "--out", copy)
    assert f"{copy}/config.yaml" in line
    assert "restore the file, or start a new run" in line


def list_with_numbers(path, motion, *, first, classes=4):
    videos = sorted(motion.rglob("*.mp4"))
    rows = [f"{video.relative_to(motion)},{number % classes + first}" for number, video in enumerate(videos)]
    path.write_text("\n".join(["path,label", *rows]))
    return path


def test_numbered_classes_are_left_out_in_training_and_test(kinemix, refuse, motion, tmp_path):
    """What a run was told about its list holds for other lists too, unless they are told otherwise."""
    (tmp_path / "other").mkdir()
    labels = list_with_numbers(tmp_path / "labels.csv", motion, first=0)
    other = list_with_numbers(tmp_path / "other" / "labels.csv", motion, first=1)
    root = ("--data.root", motion)
    code, _, errors = kinemix(
        "train", labels, *OPTIONS, *root, "--out", tmp_path / "run", "--data.exclude_labels=[3]"
    )
    assert code == 0, errors
    assert "3 classes, 15 videos" in errors
    code, first, _ = kinemix("test", tmp_path / "run", labels, "--workers", 0)
    assert code == 0
    code, second, _ = kinemix(
        "test", tmp_path / "run", other, "--workers", 0, "--data.labels_start_at", 1, *root
    )
    assert code == 0
    assert first.splitlines()[:-2] == second.splitlines()[:-2]  # the same samples, the same figures
    assert len(list((tmp_path / "run").glob("test-labels.csv-*.json"))) == 2
    line = refuse("test", tmp_path / "run", other, "--workers", 0)
    assert "unknown class '4'" in line
    assert "data.exclude_labels=[3, 4]" in line
    line = refuse("test", tmp_path / "run", "--workers", 0, "--data.exclude_labels", "[1]")
    assert "kinemix test RUN DATA" in line
    assert "check DATA" in refuse("test", tmp_path / "run", tmp_path / "nowhere.csv")
    labels.rename(tmp_path / "moved.csv")
    assert "no longer there; name the data" in refuse("test", tmp_path / "run", "--workers", 0)


def test_cures_for_numbers_can_be_followed(kinemix, refuse, motion, tmp_path):
    def fail(source, *words):
        return refuse("train", source, *OPTIONS, "--data.root", motion, "--out", tmp_path / "run", *words)

    labels = list_with_numbers(tmp_path / "labels.csv", motion, first=1)
    line = fail(labels)
    assert "set data.labels_start_at=0 and leave it out with data.exclude_labels=[0]" in line
    assert "data.exclude_labels=[0]" in fail(labels, "--data.labels_start_at", 0)
    words = ("--data.root", motion, "--data.labels_start_at=0", "--data.exclude_labels=[0]")
    code, _, errors = kinemix("train", labels, *OPTIONS, *words, "--out", tmp_path / "run")
    assert code == 0, errors
    labels = list_with_numbers(tmp_path / "labels.csv", motion, first=0)
    labels.write_text(labels.read_text().replace(",2", ",700", 1))
    line = fail(labels)
    assert "labels.csv, line 4: label 700, but classes '4', '5'" in line
    assert "(696 in all)" in line
    assert "check data.val_source" in fail(motion, "--data.val_source", tmp_path / "nowhere")


def test_data_mistakes(refuse, motion, tmp_path):
    def fail(source, *words):
        return refuse("train", source, *OPTIONS, "--out", tmp_path / "run", *words)

    assert "nowhere: no such file or folder" in fail(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty" in fail(tmp_path / "empty")
    labels = tmp_path / "labels.csv"
    video = sorted(motion.rglob("*.mp4"))[0]
    labels.write_text(f"path,label\n{video},0\n{video},2\n{video},minus\n")
    assert "labels.csv" in fail(labels)
    assert not (tmp_path / "run").exists()
    assert str(video) in fail(video)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "audio", "missing"])
def test_unreadable_videos(refuse, kinemix, run, motion, tmp_path, kind):
    source = shutil.copytree(motion, tmp_path / "videos")
    victim = sorted((source / "train").rglob("*.mp4"))[3]
    whole = victim.read_bytes()
    victim.unlink()
    if kind == "audio":
        make_audio(victim)
    elif kind != "missing":
        victim.write_bytes({"empty": b"", "text": b"x" * 999, "truncated": whole[:300]}[kind])
    line = refuse("predict", run, victim)
    assert str(victim) in line
    if kind != "missing":  # a file that is not in the folder is no sample
        line = refuse("train", source, *OPTIONS, "--out", tmp_path / "run")
        assert "1 of 24 videos cannot be read" in line
        assert str(victim) in line
        code, *_ = kinemix(
            "train", source, *OPTIONS, "--out", tmp_path / "lenient", "--data.max_unreadable", "0.05"
        )
        assert code == 0
        assert str(victim) in (tmp_path / "lenient" / "unreadable.csv").read_text()


def test_model_and_option_mistakes(refuse, motion, run, tmp_path):
    def fail(*words):
        return refuse("train", motion, *OPTIONS, "--out", tmp_path / "run", *words)

    assert "resnet18" in fail("--model", "tsm_resnet81")
    assert "kernel_sizes" in fail("--model_options.kernel_sizes", "[1, 3]")
    assert "accelerator" in fail("--machine.accelerator", "gpus")
    assert not (tmp_path / "run").exists()
    assert "a run is already there" in refuse("train", motion, *OPTIONS, "--out", run)
    assert "is a file" in refuse("train", motion, *OPTIONS, "--out", sorted(motion.rglob("*.mp4"))[0])


def test_checkpoint_mistakes(refuse, run, motion, tmp_path):
    video = sorted(motion.rglob("*.mp4"))[0]
    copy = shutil.copytree(run, tmp_path / "copy")
    next((copy / "best").glob("*.safetensors")).write_bytes(b"half")
    assert "bytes instead of" in refuse("predict", copy, video)
    (copy / "best" / "model.json").write_text("{}")
    assert "model.json" in refuse("test", copy)
    other = shutil.copytree(run, tmp_path / "other")
    words = ["train", str(motion), *OPTIONS, "--model", "tsn_resnet10t", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    shutil.rmtree(other / "last")
    shutil.copytree(tmp_path / "r" / "last", other / "last")
    assert "belong to another network" in refuse("train", "--resume", "--out", other)
    assert "no checkpoint there" in refuse("test", motion)


def test_test_data_with_other_classes(refuse, run, motion, tmp_path):
    source = shutil.copytree(motion / "val", tmp_path / "videos")
    (source / "grow").rename(source / "groww")
    assert "'groww'" in refuse("test", run, source, "--workers", 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_full_disk(refuse, motion, run, tmp_path, monkeypatch):
    copy = shutil.copytree(run, tmp_path / "copy")
    options = re.sub(r"  epochs: \d+", "  epochs: 99", (copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(options)  # so that there is something left to train
    open_path = Path.open

    def open_on_full_disk(path, mode="r", **options):
        is_appended = path.name == "log.jsonl" and mode == "a"
        return open_path(Path("/dev/full") if is_appended else path, mode, **options)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    assert "No space left on device" in refuse("train", "--resume", "--out", copy)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(refuse, motion, tmp_path):
    tmp_path.chmod(0o500)
    assert "permission" in refuse("train", motion, *OPTIONS, "--out", tmp_path / "run").lower()


def test_two_processes_in_one_directory(refuse, motion, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    code = "import time\nfrom filelock import FileLock\n"
    code += f"lock = FileLock({str(copy / '.lock')!r})\nlock.acquire()\n"
    code += "print('held', flush=True)\ntime.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline()
        assert "another process is training there" in refuse("train", "--resume", "--out", copy)
    finally:
        holder.kill()
        holder.communicate()


def test_a_defect_keeps_its_traceback(monkeypatch):
    def break_(pattern):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("kinemix.models.factory.list_models", break_)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def test_ctrl_c_outside_of_training(kinemix, monkeypatch):
    def interrupt(pattern):
        raise KeyboardInterrupt

    monkeypatch.setattr("kinemix.models.factory.list_models", interrupt)
    assert kinemix("models") == (130, "", "kinemix: interrupted\n")


@pytest.mark.parametrize("words", [("motion", "out"), ("prepare", "videos", "out")])
def test_ctrl_c_in_work_that_goes_on(kinemix, monkeypatch, words):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("kinemix.data.catalog.motion.make_motion", interrupt)
    monkeypatch.setattr("kinemix.data.prepare.run.prepare_dataset", interrupt)
    code, _, errors = kinemix(*words)
    assert code == 130
    assert errors == "kinemix: interrupted; the same command goes on where this one stopped\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("augment.hue", "0.9"),
        ("augment.brightness", "-1"),
        ("augment.scales", "[]"),
        ("augment.erase", "3"),
        ("optim.momentum", "2"),
        ("data.short_side", "0"),
        ("seed", "99999999999999999999"),
    ],
)
def test_values_out_of_range(refuse, motion, tmp_path, option, value):
    line = refuse("train", motion, *OPTIONS, "--out", tmp_path / "run", f"--{option}", value)
    assert option in line
    assert value in line
    assert not (tmp_path / "run").exists()


def test_a_start_that_failed_is_not_in_the_way(refuse, kinemix, motion, tmp_path):
    videos = shutil.copytree(motion, tmp_path / "videos")
    bad = videos / "train" / "move_left" / "bad.mp4"
    bad.write_bytes(b"no video")
    words = ("train", videos, *OPTIONS, "--out", tmp_path / "run")
    assert str(bad) in refuse(*words)
    assert (tmp_path / "run" / "unreadable.csv").exists()
    bad.unlink()
    code, _, errors = kinemix(*words)
    assert code == 0, errors
    assert not (tmp_path / "run" / "unreadable.csv").exists()


def test_a_run_does_not_move_into_somebody_elses_folder(refuse, motion, tmp_path):
    videos = shutil.copytree(motion, tmp_path / "videos")
    before = sorted(videos.rglob("*"))
    assert "holds other files" in refuse("train", videos, *OPTIONS, "--out", videos)
    assert [path for path in sorted(videos.rglob("*")) if path.name != ".lock"] == before


def test_an_option_of_a_group_that_the_verb_lacks_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "run", "--protocol.size", "96"]) == 2
    assert capsys.readouterr().err.startswith("kinemix: error: unknown option '--protocol.size'")
