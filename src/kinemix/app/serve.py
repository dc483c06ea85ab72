"""The server behind the page: one port of this machine, until Ctrl-C."""

import asyncio
import errno
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from kinemix.app.page import build_page, import_gradio
from kinemix.app.panels import STYLE
from kinemix.app.service import Example, Service
from kinemix.app.uploads import Gate, Uploads
from kinemix.errors import ConfigError

_TIDY_SECONDS = 60.0
_FAREWELL_SECONDS = 2
"""How long requests may go on after Ctrl-C."""

_PAGE_STYLE = """
.gradio-container { width: 100%; max-width: 80rem !important; margin: 0 auto !important; }
.top h1 { margin: 0; font-size: 1.5rem; } .top p { margin: .2rem 0 0; opacity: .85; }
#examples .grid-wrap, #examples .gallery-container { height: auto !important; min-height: 0 !important; }
#examples .grid-wrap { padding-top: 2.2rem; }
#examples .grid-container { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); }
#examples .caption-label { left: 0; right: 0; max-width: none; white-space: normal; overflow-wrap: anywhere;
  text-align: left; font-size: .75rem; line-height: 1.3; opacity: 1; }
footer .divider { display: none; }
:focus-visible { outline: 3px solid #e69f00 !important; outline-offset: 2px; }
"""


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: name or address of this machine; ``127.0.0.1`` is reached from it alone.
        port: 0 for one that is free.

    Raises:
        ConfigError: somebody else has the port, or there is no such address here.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: it must be from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is in use: stop what uses it, or name another one with --port"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ConfigError(
                f"port {port} of {host} is not for users: name one above 1023 with --port"
            ) from None
        reason = error.strerror or str(error)
        raise ConfigError(
            f"--host {host}: {reason}; 127.0.0.1 is this machine alone, 0.0.0.0 all it has"
        ) from None


def describe_address(listening: socket.socket) -> str:
    """What to type into a browser of this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_for_all(listening: socket.socket) -> bool:
    """Whether other machines reach it."""
    host = listening.getsockname()[0]
    return not (host.startswith("127.") or host == "::1")


def build_server(service: Service, uploads: Uploads, *, examples: Sequence[Example] = ()) -> Gate:
    """The page and its API as an ASGI application, behind a gate.

    Args:
        service: that answers.
        uploads: where visitors' files are; entered already.
        examples: clips to choose from.
    """
    gradio = import_gradio()
    from fastapi import FastAPI

    @asynccontextmanager
    async def tidy_up(_: FastAPI) -> AsyncIterator[None]:
        async def forget() -> None:
            while True:
                await asyncio.sleep(_TIDY_SECONDS)
                uploads.forget_old(time.time())

        task = asyncio.create_task(forget())
        yield
        task.cancel()

    app = FastAPI(lifespan=tidy_up, docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        app,
        build_page(service, uploads, examples=examples),
        path="/",
        max_file_size=service.limits.bytes,
        footer_links=["api"],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_choose_theme(gradio),
        css=_PAGE_STYLE + STYLE,
    )
    return Gate(app, uploads=uploads, limits=service.limits)


def _choose_theme(gradio: Any) -> Any:
    """The reader's own fonts: gradio's themes fetch theirs."""
    return gradio.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def serve(
    service: Service,
    listening: socket.socket,
    *,
    examples: Sequence[Example] = (),
    on_ready: Callable[[Callable[[], None]], None] = lambda stop: None,
) -> None:
    """Answer until Ctrl-C or SIGTERM; what visitors sent is deleted then.

    Args:
        service: that answers; started already.
        listening: from :func:`open_port`; closed at the end.
        examples: clips to choose from.
        on_ready: called when the page can be opened, with a function that ends it: outside the main thread no signal
            does.
    """
    import_gradio()
    import uvicorn

    class Server(uvicorn.Server):
        should_exit: bool

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(self.stop)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.config.app.end()
            await super().shutdown(sockets)

        def stop(self) -> None:
            self.force_exit = self.should_exit  # whoever asks twice does not wait for anybody
            self.should_exit = True

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Uvicorn would raise the signal again when it has ended, and this is no error."""
            with _call_on_signals(self.stop):
                yield

    async def answer(uploads: Uploads) -> None:
        # Built where the event loop runs already: gradio would make others and leave them open.
        server = build_server(service, uploads, examples=examples)
        config = uvicorn.Config(
            server, log_level="error", access_log=False, timeout_graceful_shutdown=_FAREWELL_SECONDS
        )
        await Server(config).serve(sockets=[listening])

    with Uploads() as uploads:
        asyncio.run(answer(uploads))


@contextmanager
def _call_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are wishes, not accidents."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
