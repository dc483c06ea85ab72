"""The page: drop a clip or use the camera, choose a network, see what it answers and why. And the API beside it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinemix.app.panels import render_hint, render_refusal, render_reply
from kinemix.app.service import Clip, Example, Service
from kinemix.app.uploads import KEPT_SECONDS, Uploads
from kinemix.errors import ConfigError, DataError, KinemixError

SESSIONS = 32
"""Visitors whose last clip is remembered, so that they can ask another network about it."""

API_NAME = "predict"

_HINT = "The answer will stand here."
_GONE = "The clip is no longer here: send it again."
_NO_ADDRESS = "Send the clip itself: addresses are not fetched."
_QUEUE = "networks"


def import_gradio() -> Any:
    """Gradio, told to keep to itself.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ConfigError("the page needs gradio: pip install 'kinemix[app]'") from error
    return gradio


def build_page(service: Service, uploads: Uploads, *, examples: Sequence[Example] = ()) -> Any:
    """The page as gradio's ``Blocks``.

    Args:
        service: that answers.
        uploads: where gradio puts what is sent; entered already.
        examples: clips to choose from.
    """
    gradio = import_gradio()
    from gradio import SelectData  # gradio finds out by this annotation that an event is wanted

    names = list(service.networks)
    with gradio.Blocks(title="kinemix", analytics_enabled=False, fill_width=True) as page:
        gradio.HTML(_render_top(service), elem_classes="top")
        clip = gradio.State(None, time_to_live=KEPT_SECONDS)
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                network = gradio.Radio(
                    names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model"
                )
                file, camera = _add_sources(gradio)
                gallery = _add_gallery(gradio, examples)
            with gradio.Column(scale=3, min_width=300):
                answer = gradio.HTML(render_hint(_HINT), elem_id="answer", min_height=200)
        _guard_files(gradio, file, camera, uploads=uploads)
        network.preprocess = lambda name: name  # a wrong one is told by the service, with the right ones

        def show(read: Clip | None, chosen: str | None) -> str:
            if read is None:
                return render_hint(_HINT)
            try:
                name = service.choose(chosen)
                return render_reply(service.answer(read, name), clip=read.name, network=name)
            except KinemixError as error:
                return render_refusal(str(error))

        def take(path: str | None, chosen: str | None) -> tuple[None, Clip | None, str]:
            """The clip's file is gone before it is answered; the page can take the next one."""
            if path is None:
                return None, None, render_hint(_HINT)
            try:
                read = _read(service, uploads, Path(path))
            except KinemixError as error:
                return None, None, render_refusal(str(error))
            return None, read, show(read, chosen)

        def choose(event: SelectData, chosen: str | None) -> tuple[Clip, str]:
            read = examples[int(event.index)].clip
            return read, show(read, chosen)

        def predict(
            video: str | None, model: str | None, top: float | None, threshold: float | None
        ) -> dict[str, Any]:
            if video is None:
                raise gradio.Error("send a clip", print_exception=False)
            try:
                return _predict(service, uploads, Path(video), model, top, threshold)
            except KinemixError as error:
                raise gradio.Error(str(error), print_exception=False) from None

        queued = {"concurrency_limit": 1, "concurrency_id": _QUEUE}
        hidden = {**queued, "api_visibility": "private"}
        file.upload(take, [file, network], [file, clip, answer], **hidden)
        camera.stop_recording(take, [camera, network], [camera, clip, answer], **hidden)
        network.input(show, [clip, network], answer, **hidden)
        if gallery is not None:
            gallery.select(choose, network, [clip, answer], **hidden)
        _add_api(gradio, predict, [file, network], service, **queued)
    # Gradio's own servers say that they have been launched, and only then are inputs held to the upload folder.
    page.has_launched = True
    page.state_session_capacity = SESSIONS
    # Not open to requests that would not wait in the queue.
    return page.queue(max_size=service.limits.waiting, api_open=False)


def _render_top(service: Service) -> str:
    return (
        "<h1>What happens in this clip?</h1>"
        f"<p>Drop a clip or record one: {service.limits.describe()}. "
        "Its file is deleted as soon as it has been read.</p>"
    )


def _add_gallery(gradio: Any, examples: Sequence[Example]) -> Any:
    if not examples:
        return None
    return gradio.Gallery(
        [(example.thumbnail.permute(1, 2, 0).numpy(), example.clip.name) for example in examples],
        label="Examples",
        columns=3,
        allow_preview=False,
        interactive=False,
        object_fit="contain",
        height="auto",
        buttons=[],
        elem_id="examples",
    )


def _add_api(gradio: Any, predict: Any, inputs: list[Any], service: Service, **options: Any) -> None:
    """The answer as JSON, for programs."""
    top = gradio.Number(service.top, precision=0, label="top", visible=False)
    threshold = gradio.Number(service.threshold, label="threshold", visible=False)
    result = gradio.JSON(visible=False, label="answer")
    gradio.Button("predict", visible=False).click(
        predict,
        [*inputs, top, threshold],
        result,
        api_name=API_NAME,
        api_description="Name what is seen in a clip, as `kinemix predict --format json` does.",
        **options,
    )


def _add_sources(gradio: Any) -> tuple[Any, Any]:
    """Where clips come from. Gradio's video player is not among them: it refuses what browsers do not play."""
    with gradio.Tabs():
        with gradio.Tab("Drop a clip"):
            file = gradio.File(label="Clip", show_label=False, height=200, elem_id="file")
        with gradio.Tab("Camera"):
            camera = gradio.Video(
                label="Camera",
                show_label=False,
                sources=["webcam"],
                include_audio=True,  # else gradio would transcode what it gets
                webcam_options=gradio.WebcamOptions(mirror=False),
                height=280,
                elem_id="camera",
            )
    return file, camera


def _guard_files(gradio: Any, *components: Any, uploads: Uploads) -> None:
    """Take nothing but what was sent: gradio would download addresses, however large, and copy other files."""

    async def keep(path: str | Path | None) -> str | None:
        if path is not None and not uploads.knows(Path(path)):
            reason = _NO_ADDRESS if str(path).startswith(("http:", "https:")) else _GONE
            raise gradio.Error(reason, print_exception=False)
        return None if path is None else str(path)

    def tell_path(payload: Any) -> str | None:
        return None if payload is None else payload.path

    for component in components:
        component.async_move_resource_to_block_cache = keep
        component.preprocess = tell_path  # a file's own leaves an empty one behind


def _read(service: Service, uploads: Uploads, path: Path) -> Clip:
    """A clip that was sent; its file is released whatever comes of it."""
    if not uploads.knows(path):
        raise DataError(_GONE)
    try:
        return service.read(path)
    finally:
        uploads.release(path)


def _predict(
    service: Service,
    uploads: Uploads,
    path: Path,
    network: str | None,
    top: float | None,
    threshold: float | None,
) -> dict[str, Any]:
    """The same for a program."""
    if not uploads.knows(path):
        raise DataError(_GONE)
    try:
        return service.predict(path, network, top=None if top is None else int(top), threshold=threshold)
    finally:
        uploads.release(path)
