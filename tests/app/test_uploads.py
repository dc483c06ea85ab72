"""The gate lets through what it may, says why not, and what was sent is deleted."""

import asyncio
import json
import os
import time

import pytest

from kinemix.app.service import Limits
from kinemix.app.uploads import FOLDER_VARIABLE, KEPT_SECONDS, Gate, Uploads

LIMITS = Limits(megabytes=0.125, waiting=2)
MOST = 2**17


@pytest.fixture
def uploads():
    with Uploads() as uploads:
        yield uploads


def send_file(uploads, name="clip.mp4", content=b"abc"):
    path = uploads.folder / "hash" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    uploads.note(path)
    return path


class Server:
    """An ASGI application that reads its body piece by piece, and then answers with a list of files."""

    def __init__(self, *, status=200, answer=(b"[", b"]"), files=None):
        self.read, self.status, self.answer, self.files = 0, status, answer, files
        self.finished = False

    async def __call__(self, scope, receive, send):
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RuntimeError("the visitor has gone")
            self.read += len(message["body"])
            more = message.get("more_body", False)
        self.finished = True
        answer = self.answer if self.files is None else (json.dumps([str(f) for f in self.files]).encode(),)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for number, part in enumerate(answer):
            await send({"type": "http.response.body", "body": part, "more_body": number + 1 < len(answer)})


def request(gate, pieces, *, path="/gradio_api/upload", method="POST", length=None, gone=False):
    """Status and body of the answer, and how many pieces were taken."""
    sent, taken = [], 0

    async def receive():
        nonlocal taken
        if taken >= len(pieces):
            assert gone
            return {"type": "http.disconnect"}
        taken += 1
        more = gone or taken < len(pieces)
        return {"type": "http.request", "body": pieces[taken - 1], "more_body": more}

    async def send(message):
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(gate(scope, receive, send))
    starts = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert len(starts) <= 1
    body = b"".join(message.get("body", b"") for message in sent)
    return (starts or [None])[0], body, taken


def test_what_is_small_enough_passes_unchanged(uploads):
    server = Server(answer=(b'["', b'"]'))
    status, body, _ = request(Gate(server, uploads=uploads, limits=LIMITS), [b"x" * MOST])
    assert (status, body, server.read) == (200, b'[""]', MOST)


@pytest.mark.parametrize("length", [None, 10, 2**31])
def test_a_body_without_end_is_cut_off(uploads, length):
    """Whatever length it tells; with a true one nothing is read at all."""
    server = Server()
    gate = Gate(server, uploads=uploads, limits=LIMITS)
    status, body, taken = request(gate, [b"x" * 2**16] * 1000, length=length)
    assert status == 413
    assert json.loads(body) == {"detail": "The clip is larger than 0.125 MB: send a shorter or smaller one."}
    assert taken == (0 if length == 2**31 else 4)
    assert server.read <= MOST + 2**16
    assert not server.finished
    assert request(gate, [b"x"])[0] == 200, "and it goes on"


def test_other_requests_have_small_bodies(uploads):
    gate = Gate(Server(), uploads=uploads, limits=LIMITS)
    path = "/gradio_api/queue/join"
    assert request(gate, [b"x" * 2**20], path=path)[0] == 200
    assert request(gate, [b"x" * 2**20, b"x"], path=path)[0] == 413
    assert request(gate, [b""], path=path, method="GET", length=2**30)[0] == 200, "it has no body"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (413, "The clip is larger than 0.125 MB"),
        (503, "All places are taken (at most 2 clips wait): try again in a moment."),
    ],
)
def test_refusals_of_the_server_are_put_into_words(uploads, status, words):
    server = Server(status=status, answer=(b"File size exceeded 131072 bytes", b" or so"))
    found, body, _ = request(Gate(server, uploads=uploads, limits=LIMITS), [b"x"])
    assert found == status
    assert json.loads(body)["detail"].startswith(words)


def test_other_errors_of_the_server_stay(uploads):
    server = Server(status=400, answer=(b"no boundary",))
    assert request(Gate(server, uploads=uploads, limits=LIMITS), [b"x"])[:2] == (400, b"no boundary")

    async def broken(scope, receive, send):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        request(Gate(broken, uploads=uploads, limits=LIMITS), [b"x"])


def test_no_more_than_so_many_are_sent_at_a_time(uploads):
    started, go = 0, asyncio.Event()

    async def slow(scope, receive, send):
        nonlocal started
        started += 1
        await go.wait()
        await Server()(scope, receive, send)

    gate = Gate(slow, uploads=uploads, limits=LIMITS)
    answers = []

    async def ask():
        async def receive():
            return {"type": "http.request", "body": b"x"}

        async def send(message):
            if message["type"] == "http.response.start":
                answers.append(message["status"])

        await gate({"type": "http", "method": "POST", "path": "/upload", "headers": []}, receive, send)

    async def visit():
        tasks = [asyncio.create_task(ask()) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert (started, answers) == (2, [503] * 3)
        go.set()
        await asyncio.gather(*tasks)
        await ask()

    asyncio.run(visit())
    assert answers == [503, 503, 503, 200, 200, 200]


def test_a_full_folder_takes_no_more_until_it_is_emptied(uploads):
    gate = Gate(Server(), uploads=uploads, limits=LIMITS)
    path = send_file(uploads, content=b"x" * 2 * MOST)
    assert request(gate, [b"x"])[0] == 503
    uploads.release(path)
    assert request(gate, [b"x"])[0] == 200


def test_pieces_of_what_was_not_sent_to_the_end_are_deleted(uploads):
    piece = uploads.folder / "tmpabc"
    whole = send_file(uploads)

    async def writing(scope, receive, send):
        piece.write_bytes(b"half")
        await Server()(scope, receive, send)

    gate = Gate(writing, uploads=uploads, limits=LIMITS)
    assert request(gate, [b"x"], gone=True)[0] is None, "nobody is there to be answered, and it is no defect"
    assert not piece.exists()
    assert whole.exists()


def test_streams_end_when_the_server_does(uploads):
    ended = []

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        ended.append(await receive())

    gate = Gate(stream, uploads=uploads, limits=LIMITS)
    sent = []

    async def receive():
        await asyncio.sleep(3600)

    async def send(message):
        sent.append(message)

    async def listen():
        task = asyncio.create_task(gate({"type": "http", "method": "GET", "path": "/"}, receive, send))
        await asyncio.sleep(0.01)
        assert not task.done()
        gate.end()
        await task

    asyncio.run(listen())
    assert ended == [{"type": "http.disconnect"}]
    assert [message.get("more_body", False) for message in sent] == [False, True, False], "and it is complete"


def test_files_that_came_are_known_until_they_are_released(uploads):
    path = uploads.folder / "hash" / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    assert not uploads.knows(path)
    gate = Gate(Server(files=[path]), uploads=uploads, limits=LIMITS)
    request(gate, [b"x"])
    request(gate, [b"x"])  # two visitors with the same clip
    assert uploads.knows(path)
    uploads.release(path)
    assert path.exists(), "one of them has no answer yet"
    uploads.release(path)
    assert not path.exists()
    assert not path.parent.exists()
    assert not uploads.knows(path)


def test_what_never_came_is_not_deleted(uploads, tmp_path):
    mine = tmp_path / "mine.mp4"
    mine.write_bytes(b"abc")
    uploads.release(mine)
    assert mine.exists()
    assert not uploads.knows(mine)


def test_files_that_nobody_asks_about_are_forgotten(uploads):
    path, other = send_file(uploads), send_file(uploads, "other.mp4")
    uploads.forget_old(time.time() + KEPT_SECONDS - 60)
    assert path.exists()
    other.unlink()
    uploads.forget_old(time.time() + KEPT_SECONDS + 60)
    assert not path.exists()
    assert not uploads.knows(path)
    assert list(uploads.folder.iterdir()) == []


def test_the_folder_goes_and_gradio_is_told_of_it_meanwhile(monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, "/somewhere")
    with Uploads() as uploads:
        assert os.environ[FOLDER_VARIABLE] == str(uploads.folder)
        assert uploads.folder.parent.stat().st_mode & 0o077 == 0, "nobody else may look into it"
        send_file(uploads)
        assert uploads.count_bytes() == 3
    assert not uploads.folder.exists()
    assert os.environ[FOLDER_VARIABLE] == "/somewhere"
    monkeypatch.delenv(FOLDER_VARIABLE)
    with Uploads():
        pass
    assert FOLDER_VARIABLE not in os.environ


def test_what_a_killed_server_left_goes_when_the_next_one_starts(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "kinemix-app-killed"
    (left / "files").mkdir(parents=True)
    (left / "files" / "clip.mp4").touch()
    (left / "lock").touch()  # the system has let go of it
    being_made = tmp_path / "kinemix-app-new"
    being_made.mkdir()
    with Uploads() as alive, Uploads():
        assert alive.folder.is_dir(), "the second server leaves the first one's folder"
        assert not left.exists()
    assert list(tmp_path.iterdir()) == [being_made]
