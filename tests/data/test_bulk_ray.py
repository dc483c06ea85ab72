"""A Ray cluster does what the local processes do, byte for byte, also when its workers are killed."""

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kinemix.cli import main
from kinemix.config import AugmentConfig, DataConfig, MachineConfig, OptimConfig, Protocol, TrainConfig
from kinemix.data.bulk import RayCluster, call_on_all, on_ray, run
from kinemix.data.catalog.motion import make_motion
from kinemix.engine.train import train
from kinemix.errors import ConfigError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'kinemix[ray]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray"),
]

VIDEOS = Path(os.environ["KINEMIX_VIDEOS"]) if "KINEMIX_VIDEOS" in os.environ else None
needs_videos = pytest.mark.skipif(VIDEOS is None, reason="KINEMIX_VIDEOS is not set")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """One that was there before; the command line below starts its own."""
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    with RayCluster() as on:
        yield on
    assert ray.is_initialized(), "what was there before stays"
    ray.shutdown()


def _call(work: Callable[[Any], Any], items: list[Any], on: RayCluster, **options: Any) -> list[Any]:
    more = {"workers": 2, "max_seconds": 60, "ordered": True, **options}
    return [(o.value, o.failure, o.detail) for o in call_on_all(work, items, on=on, **more)]


def test_a_hang_or_crash_is_told_as_it_is_here(cluster: RayCluster) -> None:
    def work(job: int) -> int:
        if job == 2:
            time.sleep(600)
        if job == 3:
            os._exit(9)
        if job == 4:
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        return 10 * job

    there = _call(work, list(range(7)), cluster, max_seconds=0.5)
    assert there == [(o.value, o.failure, o.detail) for o in call_on_all(
        work, range(7), workers=2, max_seconds=0.5, ordered=True
    )]  # fmt: skip
    assert [failure for _, failure, _ in there] == [None, None, "hung", "crashed", "crashed", None, None]


def test_what_a_killed_actor_did_is_done_again(cluster: RayCluster, tmp_path: Path) -> None:
    def work(job: str) -> tuple[str, int]:
        tries = tmp_path / job
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if job == "always" or (job == "once" and tries.read_text() == "x"):
            (tmp_path / f"orphan of {job}").write_text(str(os.getpid()))
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        return tries.read_text(), os.getppid()

    told = _call(work, ["a", "once", "always", "b"], cluster)
    assert [value and value[0] for value, _, _ in told] == ["x", "xx", None, "x"]
    assert told[2][1:] == ("crashed", "its worker's process or machine was lost")
    assert (tmp_path / "always").read_text() == "x" * (1 + run.RETRIES)
    orphans = [Path(f"/proc/{orphan.read_text()}") for orphan in tmp_path.glob("orphan*")]
    assert len(orphans) == 2
    until = (
        time.monotonic() + 30
    )  # the system ends them when it comes to it, and whoever inherits them buries them
    while any(orphan.exists() for orphan in orphans) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(orphan.exists() for orphan in orphans), "a busy child outlived its actor"


def test_state_lives_as_long_as_its_worker(cluster: RayCluster) -> None:
    count = 0

    def work(_: int) -> int:
        nonlocal count
        count += 1
        return count

    assert [value for value, _, _ in _call(work, [0] * 5, cluster, workers=1)] == [1, 2, 3, 4, 5]


def test_a_defect_is_raised_as_it_is(cluster: RayCluster) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        _call(lambda number: 1 // number, [1, 0], cluster)
    assert any("lambda" in note for note in error.value.__notes__)


def test_other_machines_are_told_apart(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(on_ray, "version", lambda _: "0.0.1")
        with pytest.raises(ConfigError, match=r"has kinemix .*, not 0\.0\.1: install the same one"):
            _call(str, [1], cluster)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "cwd", lambda: tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match=r"cannot enter .*elsewhere .*start in a folder that all"):
            _call(str, [1], cluster)


def test_workers_that_cannot_start_are_told(cluster: RayCluster) -> None:
    class Unknown:
        """What only this machine has."""

        def __reduce__(self) -> tuple[Any, ...]:
            return __import__, ("a_module_that_is_not_there",)

        def __call__(self, item: int) -> int:
            raise AssertionError

    with pytest.raises(ConfigError, match=r"Ray cannot start workers; .*a_module_that_is_not_there"):
        _call(Unknown(), [1], cluster)


def test_gpus_are_set_aside(cluster: RayCluster, tmp_path: Path) -> None:
    """Ray only counts them: they need not be there."""

    def work(number: int) -> str:
        (tmp_path / str(number)).touch()
        while len(list(tmp_path.iterdir())) < 2:  # until both workers are there
            time.sleep(0.05)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert {value for value, _, _ in _call(work, [0, 1], RayCluster(gpus_per_worker=1))} == {"0", "1"}
    assert {value for value, _, _ in _call(work, [0, 1], RayCluster(gpus_per_worker=0.5))} <= {"0", "1"}
    with pytest.raises(ConfigError, match="_per_worker 3: this Ray has 2 GPUs"):
        _call(str, [1], RayCluster(gpus_per_worker=3))


# The command line, in processes of its own.


def _start(*words: object, out: Path, mark: str = "", **environment: str) -> subprocess.Popen[bytes]:
    """``kinemix`` with its output in files; ``mark`` is handed on to every process that it starts."""
    with (out.with_suffix(".out")).open("wb") as stdout, (out.with_suffix(".err")).open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "kinemix", *map(str, words)],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "KINEMIX_MARK": mark, **environment},
        )


def _find_processes(mark: str) -> dict[int, str]:
    """Number and title of all processes that carry a mark."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"KINEMIX_MARK={mark}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def _find_actors(mark: str) -> dict[int, str]:
    """Those that Ray started; their children have inherited the title."""
    titled = {pid: title for pid, title in _find_processes(mark).items() if title.startswith("ray::_Actor")}
    children = set[int]()
    for pid in titled:
        with contextlib.suppress(OSError):
            children |= set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return {pid: title for pid, title in titled.items() if pid not in children}


def _kill_a_worker(process: subprocess.Popen[bytes], mark: str, is_under_way: Callable[[], bool]) -> None:
    """Kill the process of a busy actor in the middle of the work, and see that another one takes its place."""
    killed, before, later = 0, set[int](), set[int]()
    while process.poll() is None:
        actors = _find_actors(mark)
        busy = [pid for pid, title in actors.items() if "attempt" in title]
        if killed:
            later |= set(actors) - before
        elif busy and is_under_way():
            killed, before = busy[0], set(actors)
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.3)
    assert killed, "the work was over before"
    assert later, "nobody came in its place"


def _read(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _is_over(mark: str) -> bool:
    for _ in range(100):
        if not _find_processes(mark):
            return True
        time.sleep(0.2)
    return False


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion")
    return make_motion(folder, train_per_class=3, val_per_class=1, num_frames=24, size=64, workers=1)


@pytest.fixture(scope="module")
def odd_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd files under two labels."""
    assert VIDEOS is not None
    files = [path for path in sorted((VIDEOS / "odd").iterdir()) if path.name != "manifest.csv"]
    listed = tmp_path_factory.mktemp("odd") / "odd.csv"
    lines = [f"{path},{'ab'[number % 2]}" for number, path in enumerate(files)]
    listed.write_text("\n".join(["path,label", *lines]) + "\n")
    return listed


@pytest.fixture(scope="module")
def trained(motion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        data=DataConfig(source=str(motion), workers=0),
        model="tsm_resnet18",
        size=64,
        protocol=Protocol(num_frames=4, num_clips=2, num_crops=3),
        augment=AugmentConfig(flip="off"),
        optim=OptimConfig(epochs=1, batch_size=8),
        machine=MachineConfig(accelerator="cpu", threads=1),
        out=str(tmp_path_factory.mktemp("runs") / "run"),
    )
    return train(config)


def test_sigterm_leaves_nothing_behind_and_it_goes_on(motion: Path, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    words = ("prepare", motion, tmp_path / "out", "--on", "ray", "--shard_clips", 10, "--format", "json")
    process = _start(*words, out=tmp_path / "first", mark=mark)
    journal = tmp_path / "out" / "unfinished" / "journal.jsonl"
    while not (journal.exists() and journal.read_text().count('"clip"') >= 5):
        assert process.poll() is None, (tmp_path / "first.err").read_text()
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 130
    told = (tmp_path / "first.err").read_text()
    assert told == "kinemix: interrupted; the same command goes on where this one stopped\n"
    assert _is_over(mark)
    assert journal.exists()
    assert _start(*words, out=tmp_path / "second", mark=mark).wait(300) == 0
    assert _is_over(mark)
    assert (
        _start("prepare", motion, tmp_path / "here", "--shard_clips", 10, out=tmp_path / "third").wait(300)
        == 0
    )
    assert _read(tmp_path / "out") == _read(tmp_path / "here")


def test_a_cluster_is_joined(cluster: RayCluster, motion: Path, trained: Path, tmp_path: Path) -> None:
    videos = sorted((motion / "val").rglob("*.mp4"))
    assert _start("predict", trained, *videos, "--format", "csv", out=tmp_path / "here").wait(300) == 0
    address = ray.get_runtime_context().gcs_address
    words = ("predict", trained, *videos, "--format", "csv", "--on", "ray", "--workers", 2)
    assert _start(*words, out=tmp_path / "named", RAY_ADDRESS=address).wait(300) == 0
    assert _start(*words, "--ray_address", address, out=tmp_path / "asked").wait(300) == 0
    assert _call(str, [1], cluster) == [("1", None, "")], "it goes on without its guests"
    for name in ("named", "asked"):
        assert (tmp_path / f"{name}.out").read_bytes() == (tmp_path / "here.out").read_bytes()
        assert (tmp_path / f"{name}.err").read_text() == ""


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "no-such-host.invalid:6379", "head-node", "ray://head:10001"]
)
def test_a_cluster_that_is_not_there_is_told_at_once(
    address: str, motion: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert main(["doctor", str(motion), "--on", "ray", "--ray_address", address]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"kinemix: error: --ray_address {address}: ")
    assert told.count("\n") == 1


@needs_videos
@pytest.mark.parametrize("form", ["json", "csv"])
def test_predict_gives_the_same_file(form: str, trained: Path, odd_list: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text(
        "".join(line.rpartition(",")[0] + "\n" for line in odd_list.read_text().splitlines()[1:])
    )
    words = ("predict", trained, "--list", names, "--workers", 2, "--format", form)
    assert _start(*words, out=tmp_path / "here").wait() == 2  # some files cannot be read
    there, mark = tmp_path / "there.out", uuid.uuid4().hex
    if form == "json":
        assert _start(*words, "--on", "ray", out=there).wait() == 2
    else:
        process = _start(*words, "--on", "ray", out=there, mark=mark)
        _kill_a_worker(process, mark, lambda: there.read_bytes().count(b"/odd/") > 50)
        assert process.wait() == 2
    assert there.read_bytes() == (tmp_path / "here.out").read_bytes()
    assert there.read_bytes().count(b"/odd/") > 200
    errors = [
        [line for line in path.read_text().splitlines() if line.startswith("kinemix: ")]
        for path in (tmp_path / "here.err", tmp_path / "there.err")  # Ray tells there of the worker, too
    ]
    assert errors[0] == errors[1]
    assert len(errors[0]) > 80


@needs_videos
def test_prepare_gives_the_same_files(odd_list: Path, tmp_path: Path) -> None:
    options = ("--short_side", 64, "--max_unreadable", 0.5, "--format", "json")
    assert _start("prepare", odd_list, tmp_path / "here", *options, out=tmp_path / "local").wait() == 0
    process = _start("prepare", odd_list, tmp_path / "there", *options, "--on", "ray", out=tmp_path / "ray")
    assert process.wait() == 0
    mark = uuid.uuid4().hex
    words = ("prepare", odd_list, tmp_path / "killed", *options, "--on", "ray")
    process = _start(*words, out=tmp_path / "ray", mark=mark)
    journal = tmp_path / "killed" / "unfinished" / "journal.jsonl"
    _kill_a_worker(process, mark, lambda: journal.exists() and journal.read_text().count('"clip"') > 50)
    assert process.wait() == 0
    expected = _read(tmp_path / "here")
    assert len(json.loads(expected["prepared.json"])["shards"]) == 3
    assert _read(tmp_path / "there") == expected
    assert _read(tmp_path / "killed") == expected


@needs_videos
def test_doctor_finds_the_same(odd_list: Path, tmp_path: Path) -> None:
    """All but what is measured by the clock."""

    def read(name: str) -> Any:
        report = json.loads((tmp_path / name).read_text())
        for entry in (report, *report["videos"], *report["cost"]["formats"]):
            entry.pop("seconds")
        for entry in report["cost"]["formats"]:
            entry.pop("disk_seconds")
        for measured in ("epoch_seconds", "shares", "bottleneck"):
            report["cost"].pop(measured)
        report["findings"] = [f for f in report["findings"] if f["kind"] != "slow_to_sample"]
        return report

    assert _start("doctor", odd_list, "--json", tmp_path / "here", out=tmp_path / "local").wait() == 1
    mark, started = uuid.uuid4().hex, time.monotonic()
    words = ("doctor", odd_list, "--json", tmp_path / "there", "--on", "ray")
    process = _start(*words, out=tmp_path / "ray", mark=mark)
    _kill_a_worker(process, mark, lambda: time.monotonic() - started > 20)
    assert process.wait() == 1
    assert len(read("here")["videos"]) == 240
    assert read("there") == read("here")
