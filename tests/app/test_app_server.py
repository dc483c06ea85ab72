"""The server, asked by programs: the answers of `predict`, clear refusals, and nothing left on the disk."""

import json
import os
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from trying import run_app

from kinemix.app.serve import describe_address, is_for_all, open_port, serve
from kinemix.app.service import Limits, Service, read_examples
from kinemix.cli import main
from kinemix.errors import ConfigError

pytest.importorskip("gradio", reason="the app needs gradio: pip install 'kinemix[app]'")
httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LIMITS = Limits(megabytes=1, seconds=5, waiting=3)
BOUNDARY = "a-boundary"


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def app(networks, clips, tmp_path_factory, monkeymodule):
    with Service(networks, limits=LIMITS) as service:
        examples = read_examples(service, [str(clips[5])])
        with run_app(service, monkeymodule, tmp_path_factory.mktemp("temporary"), examples=examples) as app:
            yield app


def upload(app, name, content):
    """The server's answer to a form with one file."""
    return httpx.post(f"{app.address}/gradio_api/upload", files={"files": (name, content)}, timeout=60)


def ask(app, file, **arguments):
    """The result of the API, or its error: two plain requests."""
    data = {"path": {"path": file, "meta": {"_type": "gradio.FileData"}}, **arguments}
    body = [data["path"], *(arguments.get(name) for name in ("model", "top", "threshold"))]
    joined = httpx.post(f"{app.address}/gradio_api/call/predict", json={"data": body}, timeout=60)
    if joined.status_code != 200:
        return joined.status_code, joined.json()["detail"]
    address = f"{app.address}/gradio_api/call/predict/{joined.json()['event_id']}"
    lines = httpx.get(address, timeout=60).text.splitlines()
    events = dict(zip(lines[::3], lines[1::3], strict=False))
    if "event: complete" in events:
        return json.loads(events["event: complete"].removeprefix("data: "))[0]
    return json.loads(events["event: error"].removeprefix("data: "))["error"]


def send(app, path, **arguments):
    (file,) = upload(app, path.name, path.read_bytes()).json()
    return ask(app, file, **arguments)


def test_answers_are_those_of_predict_and_of_the_verb(app, networks, runs, clips, capfd):
    for name in networks:
        clip = clips[4]
        found = send(app, clip, model=name, top=4)
        wanted = [one.to_dict() for one in networks[name].predict(clip, top=4)]
        assert found == {"file": clip.name, "model": name, "predictions": wanted}
        capfd.readouterr()
        assert main(["predict", str(runs[name]), str(clip), "--format", "json", "--top", "4"]) == 0
        assert json.loads(capfd.readouterr().out)[0]["predictions"] == found["predictions"]


def test_what_is_not_said_is_as_the_app_was_started(app, networks, clips):
    found = send(app, clips[0])
    assert found["model"] == "order"
    assert found["predictions"] == [one.to_dict() for one in networks["order"].predict(clips[0])]


def test_gradios_client_gets_the_same(app, networks, clips):
    client_module = pytest.importorskip("gradio_client")
    client = client_module.Client(app.address, verbose=False, analytics_enabled=False)
    found = client.predict(video=client_module.handle_file(clips[3]), model="plain", api_name="/predict")
    assert found["predictions"] == [one.to_dict() for one in networks["plain"].predict(clips[3])]
    with pytest.raises(Exception, match="top is 0: ask for 1 answer or more"):
        client.predict(video=client_module.handle_file(clips[3]), top=0, api_name="/predict")


def test_files_are_deleted_whatever_came_of_them(app, clips, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 50)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clips[0].read_bytes()[:3000])
    assert send(app, text).startswith("text.mp4: not a video")
    assert send(app, cut).startswith("cut.mp4: not a video")
    assert send(app, clips[0], model="nobody").startswith("no model 'nobody' here: known: order, plain")
    assert send(app, clips[0], threshold=2) == "threshold is 2: a score lies between 0 and 1, and so must it"
    assert send(app, clips[0])["file"] == clips[0].name
    assert app.list_uploads() == []


def test_two_visitors_with_the_same_clip(app, clips):
    files = [upload(app, "same.mp4", clips[1].read_bytes()).json()[0] for _ in range(2)]
    assert files[0] == files[1]
    answers = [ask(app, file) for file in files]
    assert answers[0] == answers[1]
    assert answers[0]["predictions"]
    assert ask(app, files[0]) == "The clip is no longer here: send it again."


def test_a_long_clip_is_refused_before_it_is_decoded(app, tmp_path):
    import av
    import numpy as np

    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 16
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert send(app, path) == "long.mp4: longer than 5 s: give a shorter one"


def form(pieces):
    """A body that tells no length: a file of so many megabytes."""
    disposition = 'Content-Disposition: form-data; name="files"; filename="endless.mp4"'
    yield f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode()
    for _ in range(pieces):
        yield b"\0" * 2**20
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def test_a_file_that_is_too_large_is_cut_off(app, clips):
    words = {"detail": "The clip is larger than 1 MB: send a shorter or smaller one."}
    told = upload(app, "large.mp4", b"\0" * 2**21)
    assert (told.status_code, told.json()) == (413, words)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    address = f"{app.address}/gradio_api/upload"
    untold = httpx.post(address, content=form(40), headers=headers, timeout=60)
    assert (untold.status_code, untold.json()) == (413, words)
    assert app.list_uploads() == []
    assert send(app, clips[0])["predictions"]


@pytest.mark.parametrize("kind", ["file", "address", "example"])
def test_nothing_is_read_but_what_was_sent(app, clips, kind):
    """Neither files of this machine, nor what an address leads to."""
    named = {"file": str(clips[0]), "address": "http://example.com/clip.mp4"}
    if kind == "example":
        named["example"] = str(next(app.uploads.rglob("*.webp")))
    words = {
        "file": "not uploaded by a user",
        "address": "Send the clip itself: addresses are not fetched.",
        "example": "The clip is no longer here: send it again.",
    }
    assert words[kind] in ask(app, named[kind])
    assert app.list_uploads() == []


def test_who_comes_when_all_places_are_taken_is_told_so(networks, clips, tmp_path, monkeypatch):
    limits = Limits(megabytes=1, seconds=5, waiting=1)
    going, go = threading.Event(), threading.Event()

    class Slow(Service):
        def predict(self, *arguments, **options):
            going.set()
            go.wait(60)
            return super().predict(*arguments, **options)

    with (
        Slow(networks, limits=limits) as service,
        run_app(service, monkeypatch, tmp_path) as app,
        ThreadPoolExecutor() as pool,
    ):
        (file,) = upload(app, "a.mp4", clips[0].read_bytes()).json()
        for _ in range(3):
            upload(app, "a.mp4", clips[0].read_bytes())
        first = pool.submit(ask, app, file)
        assert going.wait(60)
        answers = [pool.submit(ask, app, file) for _ in range(3)]
        come = as_completed(answers, timeout=60)
        refused = [next(come).result() for _ in range(2)]  # while the first is answered and another waits
        go.set()
        words = "All places are taken (at most 1 clips wait): try again in a moment."
        assert refused == [(503, words)] * 2
        assert first.result()["predictions"] == next(come).result()["predictions"]


def test_nobody_passes_by_the_queue(app, clips):
    (file,) = upload(app, "a.mp4", clips[0].read_bytes()).json()
    body = {"data": [{"path": file, "meta": {"_type": "gradio.FileData"}}, None, None, None]}
    answer = httpx.post(f"{app.address}/gradio_api/run/predict", json=body)
    assert (answer.status_code, "join the queue" in answer.text) == (404, True)
    assert ask(app, file)["predictions"]


def test_the_page_needs_nothing_from_elsewhere(app):
    page = httpx.get(app.address).text
    assert "What happens in this clip?" in page
    for kind in ("<script", "<link", "@import", "url("):
        for part in page.split(kind)[1:]:
            assert "http" not in part.partition(">")[0] or "127.0.0.1" in part.partition(">")[0]
    settings = json.loads(httpx.get(f"{app.address}/config").text)
    assert settings["analytics_enabled"] is False
    assert [f["api_name"] for f in settings["dependencies"] if f["api_visibility"] == "public"] == ["predict"]


# ------------------------------------------------------------------------------------------------ beginning and end


def test_a_port_in_use_is_told_before_anything_is_loaded(capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "no-such-run", "--port", str(port)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line == (
        f"kinemix: error: port {port} of 127.0.0.1 is in use: stop what uses it, or name another one with --port"
    )


def test_addresses():
    with open_port("127.0.0.1", 0) as ours:
        assert describe_address(ours) == f"http://127.0.0.1:{ours.getsockname()[1]}"
        assert not is_for_all(ours)
    with open_port("0.0.0.0", 0) as everybodys:
        assert describe_address(everybodys).startswith("http://127.0.0.1:")
        assert is_for_all(everybodys)
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.1: .*127\.0\.0\.1 is this machine alone"):
        open_port("192.0.2.1", 0)
    with pytest.raises(ConfigError, match="--port 70000: it must be from 0 to 65535"):
        open_port("127.0.0.1", 70000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_without_an_error_though_a_page_listens(service, tmp_path, monkeypatch, number, capfd):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = signal.getsignal(number)
    listening = open_port("127.0.0.1", 0)
    address, told = f"{describe_address(listening)}/gradio_api/heartbeat/somebody", []

    def listen():
        with httpx.stream("GET", address, timeout=60) as stream:
            told.append(len(list(tmp_path.iterdir())))
            os.kill(os.getpid(), number)
            told.append([*stream.iter_lines()][-1])

    visitor = threading.Thread(target=listen)
    serve(service, listening, on_ready=lambda _: visitor.start())
    visitor.join()
    assert told[0] == 1
    assert len(told) == 2, "the stream came to its end"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before
    assert capfd.readouterr() == ("", "")


def test_bad_runs_and_examples_are_told(runs, tmp_path, capfd):
    def refuse(*words):
        capfd.readouterr()
        assert main(["app", *map(str, words), "--port", "0"]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        return line

    assert "no such run directory" in refuse(tmp_path / "nothing")
    assert "no such file" in refuse(runs["plain"], "--examples", tmp_path / "nothing.mp4")
    assert "give 2 different ones" in refuse(*runs.values(), "--names", "one")
    assert "max_seconds is 0" in refuse(runs["plain"], "--max_seconds", 0)


def test_without_gradio_one_line_names_the_cure(monkeypatch, runs, capfd):
    import sys

    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", str(runs["plain"])]) == 2
    assert capfd.readouterr().err == "kinemix: error: the page needs gradio: pip install 'kinemix[app]'\n"


def test_the_verb_serves_runs_and_examples_until_ctrl_c(runs, clips, tmp_path, monkeypatch, capfd):
    """In this process: the page is visited when it says where it is."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shutil.copy(clips[0], example := tmp_path.parent / "example.mp4")
    pages = []

    def visit(address):
        pages.append(httpx.get(f"{address}/config", timeout=60).json())
        os.kill(os.getpid(), signal.SIGINT)

    def describe(listening):
        address = describe_address(listening)
        threading.Thread(target=visit, args=(address,)).start()
        return address

    monkeypatch.setattr("kinemix.app.serve.describe_address", describe)
    words = ["app", *map(str, runs.values()), "--names", "A", "B", "--examples", str(example), "--port", "0"]
    assert main(words) == 0
    out, errors = capfd.readouterr()
    assert out.startswith("http://127.0.0.1:")
    assert out.endswith("  (Ctrl-C ends it)\n")
    assert errors == ""
    values = {part["type"]: part["props"] for part in pages[0]["components"]}
    assert [name for name, _ in values["radio"]["choices"]] == ["A", "B"]
    assert [picture["caption"] for picture in values["gallery"]["value"]] == ["example.mp4"]
    assert list(tmp_path.iterdir()) == []
