"""``kinemix app``: a page to try networks on, and its JSON API."""

import sys
from collections.abc import Callable
from typing import Literal

from kinemix.cli import VERBS
from kinemix.cli.options import Options


def run_app(words: list[str]) -> int:
    """``kinemix app RUN...``, until Ctrl-C."""
    options = Options("app", "RUN [RUN ...] [--OPTION VALUE ...]", VERBS["app"])
    options.add(
        "RUNS", str, nargs="+", about="run directories, or checkpoint folders in them, to choose from"
    )
    options.add("--names", str, nargs="+", about="of the networks, one a run; by default their models'")
    options.add("--examples", str, nargs="+", about="clips that visitors may choose")
    options.add("--host", str, "127.0.0.1", about="address to listen on; 0.0.0.0 lets other machines in")
    options.add("--port", int, 7860, about="to listen on; 0 takes one that is free")
    options.add("--top", int, 5, about="answers a clip, and task")
    options.add(
        "--threshold",
        float,
        0.5,
        about="where a clip may have several classes: score from which one is present",
    )
    options.add("--max_megabytes", float, 64.0, about="of a clip")
    options.add("--max_seconds", float, 60.0, about="that a clip may last, with 60 frames each")
    options.add("--max_waiting", int, 8, about="clips that may wait for their answer")
    options.add(
        "--checkpoint",
        Literal["best", "last"] | None,
        about="by default the best, or the last if there is no best",
    )
    given = options.parse(words)

    from kinemix.app.page import import_gradio
    from kinemix.app.serve import describe_address, is_for_all, open_port, serve
    from kinemix.app.service import Limits, Service, read_examples
    from kinemix.cli.explain import name_runs
    from kinemix.deploy.predict import load
    from kinemix.engine.progress import CountBar

    limits = Limits(megabytes=given.max_megabytes, seconds=given.max_seconds, waiting=given.max_waiting)
    import_gradio()  # what is missing is told before anything is loaded
    listening = open_port(given.host, given.port)
    with listening:
        networks = {
            name: load(run, checkpoint=given.checkpoint)
            for name, run in name_runs(given.RUNS, given.names).items()
        }
        with Service(networks, limits=limits, top=given.top, threshold=given.threshold) as service:
            paths = given.examples or []
            with CountBar("reading examples", total=len(paths)) as bar:
                examples = read_examples(service, paths, on_read=lambda: bar.advance(1))

            def tell(_: Callable[[], None]) -> None:
                print(f"{describe_address(listening)}  (Ctrl-C ends it)", flush=True)
                if is_for_all(listening):
                    print("note: whoever reaches this machine can use it", file=sys.stderr)

            serve(service, listening, examples=examples, on_ready=tell)
    return 0
