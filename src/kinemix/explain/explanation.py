"""Explanations of a network's answers on disk: a folder of pictures, films and arrays for each video, and one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kinemix.atomic import write_atomically
from kinemix.errors import ConfigError, did_you_mean
from kinemix.evaluate.protocol import describe_protocol
from kinemix.explain.arrays import write_arrays
from kinemix.explain.evidence import find_answer
from kinemix.explain.methods import METHODS, Network, Part, Subject, apply_methods, choose_methods
from kinemix.explain.page import Page, render_png
from kinemix.explain.view import View, read_view
from kinemix.label_space import LabelSpace

Form = Literal["all", "page", "pictures"]

_TOP = 5


@dataclass(frozen=True)
class Explanation:
    """One video explained.

    Attributes:
        title: the video's name.
        view: the clip that was looked at.
        label: the class that was explained, of the first network.
        logits: K, of the whole video by the protocol.
        answers: for each network what it answers, the best first, with ``label``, ``score`` and ``task``.
        parts: what the methods found.
    """

    title: str
    view: View
    label: int
    logits: torch.Tensor
    answers: dict[str, tuple[Any, ...]]
    parts: tuple[Part, ...]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays, named ``<method>/<name>``."""
        arrays = {
            "frames": self.view.frames.numpy(),
            "indices": np.array(self.view.indices),
            "logits": self.logits.numpy(),
            "label": np.array(self.label),
        }
        for part in self.parts:
            arrays |= {f"{part.name}/{name}": value for name, value in part.arrays.items()}
        return arrays


def explain_video(
    networks: Sequence[Network],
    video: Any,
    *,
    title: str,
    label: str | None = None,
    methods: Sequence[str] | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain what a network answers to a video.

    Args:
        networks: the network; and others that stand beside it in the film strips.
        video: a file, a folder of frames, or a tensor ``T C H W``.
        title: its name.
        label: the class whose evidence is looked for; by default each network's own answer.
        methods: names in :data:`kinemix.explain.METHODS`; by default all that apply.
        seed: of the shuffles.

    Raises:
        UnreadableVideoError: the file gives no frames.
        ConfigError: unknown class or method; networks that look at different frames.
    """
    names = choose_methods(methods)
    views = tuple(read_view(network.trained, video) for network in networks)
    for view, network in zip(views[1:], networks[1:], strict=True):
        _check_same_frames(views[0], view, networks[0], network)
    scores = [network.trained.score(video) for network in networks]
    labels = tuple(
        find_answer(logits, network.trained.space)
        if label is None
        else find_label(network.trained.space, label)
        for network, logits in zip(networks, scores, strict=True)
    )
    subject = Subject(tuple(networks), views, labels, title, seed)
    parts = apply_methods(subject, names, of_video=True, asked=methods is not None)
    answers = {
        network.title: tuple(network.trained.rank(logits, top=_TOP))
        for network, logits in zip(networks, scores, strict=True)
    }
    return Explanation(title, views[0], labels[0], scores[0], answers, tuple(parts))


def find_label(space: LabelSpace, label: str) -> int:
    """The number of a class, ``cup`` or, where several tasks have one of that name, ``noun:cup``.

    Raises:
        ConfigError: there is none of that name, or several.
    """
    places = {task: range(place.start, place.stop) for task, place in space.places.items()}
    task, _, rest = label.partition(":")
    if task in places and (found := [k for k in places[task] if space.class_names[k] == rest]):
        return found[0]
    found = [k for k, name in enumerate(space.class_names) if name == label]
    if len(found) > 1:
        raise ConfigError(
            f"class {label!r} is one of several tasks: write {next(iter(places))}:{label} or another"
        )
    if not found:
        raise ConfigError(f"unknown class {label!r}: {did_you_mean(label, space.class_names)}")
    return found[0]


def _check_same_frames(first: View, other: View, one: Network, two: Network) -> None:
    if first.indices != other.indices or not torch.equal(first.frames, other.frames):
        raise ConfigError(
            f"{one.title} and {two.title} look at different frames or crops of a video "
            f"({describe_protocol(first.protocol)}; {describe_protocol(other.protocol)}): explain them one by one"
        )


class ExplanationWriter:
    """Puts explanations into a folder as they come: a folder of files for each video, and one page of all.

    Args:
        out: made with the first video; what an earlier call wrote there under the same names is replaced.
        networks: what is explained, and what stands beside it.
        methods: names; by default all that apply.
        form: ``pictures`` for the folders, ``page`` for the page, or both.

    Attributes:
        left_out: name of each method that was asked for and does not apply -> why.
    """

    def __init__(
        self,
        out: Path,
        networks: Sequence[Network],
        *,
        methods: Sequence[str] | None = None,
        form: Form = "all",
    ) -> None:
        self.out, self.form, self.methods = out, form, methods
        self.left_out: dict[str, str] = {}
        self._network = networks[0]
        self._names: set[str] = set()
        self._page = Page(f"What {self._network.title} sees")
        self._page.add_text("Protocol: " + describe_protocol(self._network.trained.protocol))

    def add(self, explanation: Explanation) -> Path:
        """Write what there is of one video; returns its folder (or that of the page)."""
        folder = self.out if self.form == "page" else self.out / self._name_folder(explanation.title)
        folder.mkdir(parents=True, exist_ok=True)
        if self.form != "page":
            write_arrays(folder / "arrays.npz", explanation.to_arrays())
        self._page.add_heading(explanation.title)
        for title, answers in explanation.answers.items():
            ranked = ", ".join(f"{answer.label} {answer.score:.1%}" for answer in answers)
            self._page.add_text(f"{title} answers: {ranked}")
        for part in explanation.parts:
            self._show(part, self._write(folder, part))
        return folder

    def finish(self) -> Path:
        """Write what does not depend on the video, and the page; returns that, or the folder where none is wanted."""
        subject = Subject((self._network,), (), (), self._network.title)
        names, asked = choose_methods(self.methods), self.methods is not None
        parts = apply_methods(subject, names, of_video=False, asked=asked)
        arrays = {f"{part.name}/{name}": value for part in parts for name, value in part.arrays.items()}
        if arrays and self.form != "page":
            write_arrays(self.out / "weights.npz", arrays)
        if parts:
            self._page.add_heading("The weights")
        for part in parts:
            self._show(part, self._write(self.out, part))
        if self.form == "pictures":
            return self.out
        self._page.write(self.out / "index.html")
        return self.out / "index.html"

    def _write(self, folder: Path, part: Part) -> bytes | None:
        """The part's picture as a PNG file, in the folder and in memory."""
        picture = None if part.figure is None else render_png(part.figure)
        if self.form != "page":
            for content, ending in ((picture, "png"), (part.film, "mp4")):
                if content is not None:
                    _write_bytes(folder / f"{part.name}.{ending}", content)
        return picture

    def _show(self, part: Part, picture: bytes | None) -> None:
        """The part on the page."""
        self._page.add_heading(part.name, level=3)
        if picture is not None:
            self._page.add_figures((picture, METHODS[part.name].about))
        if part.film is not None:
            self._page.add_film(part.film, "The same as a film.")
        for remark in part.remarks:
            self._page.add_text(remark)
        if part.figure is None and self.methods is not None:
            self.left_out[part.name] = " ".join(part.remarks)

    def _name_folder(self, title: str) -> str:
        """A name for the video's folder that no other video has taken."""
        stem = "-".join(Path(title).with_suffix("").parts) or "video"
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name)
        return name


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomically(path, lambda partial: partial.write_bytes(content), durable=False)
