"""What visitors send: a folder of its own that is emptied again, and a gate in front of the server.

Gradio keeps what is uploaded in files named after their content, limits each file of a request (not the request, and
no other body), and leaves a file behind where a visitor goes away in the middle. The gate knows what it let in.
"""

import asyncio
import json
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from kinemix.app.service import Limits

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"
"""Names the folder to gradio, which reads it when it is imported and later."""

_PREFIX = "kinemix-app-"
_LOCK_NAME = "lock"

KEPT_SECONDS = 600
"""How long a file is kept that nobody asks about any more."""

_FRAMING_BYTES = 2**16
"""What a form may have around its file."""

_OTHER_BYTES = 2**20
"""Of a request that brings no file."""


class Uploads:
    """The folder of what visitors send, in the system's folder for temporary files; it goes when it is left.

    What a server left behind that was killed goes when the next one starts. Two visitors who send the same clip
    share its file, so it is counted how often it came.
    """

    def __init__(self) -> None:
        delete_abandoned()
        self._home = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self._alive = FileLock(self._home / _LOCK_NAME)
        self._alive.acquire()
        self.folder = self._home / "files"
        self.folder.mkdir(mode=0o700)
        self._counts: Counter[Path] = Counter()
        self._lock = threading.Lock()
        self._before = os.environ.get(FOLDER_VARIABLE)

    def __enter__(self) -> "Uploads":
        os.environ[FOLDER_VARIABLE] = str(self.folder)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before is None:
            os.environ.pop(FOLDER_VARIABLE, None)
        else:
            os.environ[FOLDER_VARIABLE] = self._before
        shutil.rmtree(self._home, ignore_errors=True)
        self._alive.release()

    def note(self, path: Path) -> None:
        """A file has come."""
        with self._lock:
            self._counts[path] += 1

    def knows(self, path: Path) -> bool:
        """Whether a file has come from a visitor and is still there."""
        return path in self._counts and path.is_file()

    def release(self, path: Path) -> None:
        """One of those who sent this file has got an answer; after the last of them it is deleted.

        A path that never came is nobody's to delete, and stays.
        """
        with self._lock:
            if path not in self._counts:
                return
            self._counts[path] -= 1
            if self._counts[path] <= 0:
                self._delete(path)

    def forget_old(self, now: float) -> None:
        """Delete what came more than :data:`KEPT_SECONDS` ago and was never asked about."""
        with self._lock:
            for path in list(self._counts):
                with suppress(FileNotFoundError):
                    if now - path.stat().st_ctime <= KEPT_SECONDS:
                        continue
                self._delete(path)

    def delete_pieces(self) -> None:
        """Delete files that were not sent to the end; only while nobody is sending."""
        for path in self.folder.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)

    def count_bytes(self) -> int:
        """Of everything that is there."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += (Path(folder) / name).stat().st_size
        return total

    def _delete(self, path: Path) -> None:
        del self._counts[path]
        path.unlink(missing_ok=True)
        with suppress(OSError):  # other files of the same content, under other names
            path.parent.rmdir()


def delete_abandoned() -> None:
    """Delete what killed servers have left in the system's folder for temporary files.

    A server holds a lock for as long as it lives; a folder without one is being made.
    """
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = home / _LOCK_NAME
        with suppress(OSError, Timeout):  # another user's, or in use
            if lock.is_file():
                with FileLock(lock, timeout=0):
                    shutil.rmtree(home, ignore_errors=True)


class Gate:
    """In front of a server that gradio made: bodies are no larger than they may be, and few are sent at a time.

    Args:
        app: the server, as ASGI.
        uploads: where it puts files.
        limits: of them.
    """

    def __init__(self, app: Asgi, *, uploads: Uploads, limits: Limits) -> None:
        self._app, self._uploads, self._limits = app, uploads, limits
        self._sending = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Tell the streams that open pages listen to that it is over; else nobody would end them."""
        self._ended.set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or say why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._pass_listener(scope, receive, send)
        elif scope["path"].rstrip("/").endswith("/upload"):
            await self._pass_file(scope, receive, send)
        else:
            await self._pass(scope, receive, send, most=_OTHER_BYTES)

    async def _pass_listener(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through that brings nothing; it is as if its sender went away when the server ends."""
        unfinished = False

        async def receive_or_end() -> Message:
            message, end = asyncio.ensure_future(receive()), asyncio.ensure_future(self._ended.wait())
            await asyncio.wait((message, end), return_when=asyncio.FIRST_COMPLETED)
            end.cancel()
            if message.done():
                return message.result()
            message.cancel()
            return {"type": "http.disconnect"}

        async def send_and_note(message: Message) -> None:
            nonlocal unfinished
            await send(message)
            unfinished = message["type"] == "http.response.start" or message.get("more_body", False)

        await self._app(scope, receive_or_end, send_and_note)
        if unfinished and self._ended.is_set():
            await send({"type": "http.response.body", "body": b""})

    async def _pass_file(self, scope: Message, receive: Receive, send: Send) -> None:
        room = self._limits.waiting * self._limits.bytes
        if self._sending >= self._limits.waiting or self._uploads.count_bytes() >= room:
            await _refuse(send, 503, self._limits.explain_waiting())
            return
        self._sending += 1
        try:
            await self._pass(
                scope, receive, send, most=self._limits.bytes + _FRAMING_BYTES, on_files=self._note
            )
        finally:
            self._sending -= 1
            if not self._sending:
                self._uploads.delete_pieces()

    def _note(self, body: bytes) -> None:
        """Gradio answers with a list of the files that it wrote."""
        for path in json.loads(body):
            self._uploads.note(Path(path))

    async def _pass(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
        *,
        most: int,
        on_files: Callable[[bytes], None] | None = None,
    ) -> None:
        """Let a request through whose body holds no more than so many bytes.

        Gradio's own refusals are put into words that say what to do.
        """
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > most:
            await _refuse(send, 413, self._limits.explain_size())
            return
        taken, status = 0, 0
        gone = False
        answer = bytearray()
        refusals = {413: self._limits.explain_size(), 503: self._limits.explain_waiting()}

        async def receive_counted() -> Message:
            nonlocal taken, status, gone
            message = await receive()
            gone |= message["type"] == "http.disconnect"
            taken += len(message.get("body", b""))
            if taken > most:
                status = 413
                raise _TooLargeError
            return message

        async def send_in_words(message: Message) -> None:
            nonlocal status
            if status in refusals:  # what is said instead is said below
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if status in refusals:
                    return
            elif on_files is not None and status == 200:
                answer.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    on_files(bytes(answer))
            await send(message)

        try:
            await self._app(scope, receive_counted, send_in_words)
        except Exception:
            if status not in refusals and not gone:
                raise
        if status in refusals:
            await _refuse(send, status, refusals[status])


class _TooLargeError(Exception):
    """Ends the reading of a body."""


async def _refuse(send: Send, status: int, reason: str) -> None:
    """An answer as FastAPI gives it for an error, which gradio's clients show."""
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
