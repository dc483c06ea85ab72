"""The app on a port of its own, in a thread, as long as a test needs it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinemix.app.serve import describe_address, open_port, serve


@dataclass(frozen=True)
class Running:
    """An app that can be visited, and the folder of what is sent to it."""

    address: str
    uploads: Path

    def list_uploads(self) -> list[str]:
        """Names of the files that visitors sent and that are still there."""
        return [path.name for path in self.uploads.rglob("*") if path.is_file() and path.suffix != ".webp"]


@contextmanager
def run_app(service, monkeypatch, folder, *, examples=()) -> Iterator[Running]:
    """Serve until the block ends; temporary files lie in ``folder``, which must be empty again then."""
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    listening = open_port("127.0.0.1", 0)
    ready, stops = threading.Event(), []

    def tell(stop):
        stops.append(stop)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(service, listening), kwargs={"examples": examples, "on_ready": tell}
    )
    thread.start()
    try:
        assert ready.wait(120)
        (uploads,) = folder.glob("*/files")
        yield Running(describe_address(listening), uploads)
    finally:
        stops[0]()
        thread.join(60)
        listening.close()
    assert not thread.is_alive()
    assert list(folder.iterdir()) == [], "nothing is left behind"
