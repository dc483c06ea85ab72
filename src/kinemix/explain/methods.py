"""Every way of explaining, by name: what it shows, how it is asked for, and what comes of it.

A method takes a subject (a network, one clip of a video, a class) and gives a part: figures, arrays, perhaps a film;
or, where it does not fit the network, the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure

from kinemix.data.film import encode_film
from kinemix.errors import ConfigError, did_you_mean
from kinemix.explain.evidence import measure_evidence, plot_evidence
from kinemix.explain.frame_choice import find_chosen_frames, plot_chosen_frames
from kinemix.explain.gates import plot_gates, read_gates
from kinemix.explain.heatmap import Pictures, enlarge, overlay_heat
from kinemix.explain.kernels import plot_kernels, read_kernels
from kinemix.explain.last_map import DoesNotApplyError
from kinemix.explain.position_kernels import plot_position_kernels, read_position_kernels
from kinemix.explain.saliency import Saliency, Way, compute_saliency, plot_saliency
from kinemix.explain.view import Trained, View

Arrays = dict[str, np.ndarray]

FILM_HEIGHT, FILM_RATE = 224, 6.0
"""Pixels, about, and frames a second, of the films."""


@dataclass(frozen=True)
class Network:
    """A trained network with the name that stands in captions."""

    title: str
    trained: Trained


@dataclass(frozen=True)
class Subject:
    """What is explained.

    Attributes:
        networks: the network, and others that stand beside it in the film strips.
        views: the clip, as each of them gets it; people see the same in all.
        labels: for each of them the class whose evidence is looked for.
        title: of the video.
        seed: of the shuffles.
    """

    networks: tuple[Network, ...]
    views: tuple[View, ...]
    labels: tuple[int, ...]
    title: str
    seed: int = 0

    @property
    def trained(self) -> Trained:
        """The first network: the one that is explained."""
        return self.networks[0].trained

    @property
    def view(self) -> View:
        """The clip, as the first network gets it."""
        return self.views[0]

    def caption(self, place: int = 0) -> str:
        """A network and its class."""
        network = self.networks[place]
        return f"{network.title}: {network.trained.space.class_names[self.labels[place]]}"


@dataclass(frozen=True)
class Part:
    """What one method found.

    Attributes:
        name: of the method, and of its files.
        figure: ``None`` where the method does not apply.
        arrays: by name; the method's name stands before it.
        film: an MP4 file.
        remarks: what should be known: how it was done, or why it does not apply.
    """

    name: str
    figure: Figure | None = None
    arrays: Arrays = field(default_factory=dict)
    film: bytes | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A way of explaining.

    Attributes:
        about: what its picture shows.
        explain: a subject to a part; raises :class:`DoesNotApplyError`.
        of_video: whether it looks at a clip; else it shows the network's weights, whatever the video.
    """

    about: str
    explain: Callable[[Subject], Part]
    of_video: bool = True


def _explain_saliency(name: str, way: Way) -> Callable[[Subject], Part]:
    def explain(subject: Subject) -> Part:
        found: dict[str, Saliency] = {}
        for place, network in enumerate(subject.networks):
            clip = subject.views[place].normalize().to(network.trained.device)
            asked = way if place == 0 else None  # one that stands beside is shown as well as it can be
            found[subject.caption(place)] = compute_saliency(
                network.trained.model, clip, [subject.labels[place]], way=asked
            )
        heats = {caption: saliency.heat[0].cpu() for caption, saliency in found.items()}
        frames = subject.view.frames
        first = next(iter(found.values()))
        return Part(
            name,
            plot_saliency(frames, heats, headings=subject.view.headings, title=subject.title),
            {"heat": first.heat[0].cpu().numpy(), "raw": first.raw[0].cpu().numpy()},
            make_film(frames, list(heats.values())),
            tuple(_describe_saliency(caption, saliency) for caption, saliency in found.items()),
        )

    return explain


def _describe_saliency(caption: str, saliency: Saliency) -> str:
    steps, height, width = saliency.raw.shape[1:]
    way = "saliency tube" if saliency.way == "tube" else "Grad-CAM, frame by frame"
    return f"{caption}: {way}, from a last map of {steps} steps of {height} x {width}."


def make_film(frames: Pictures, heats: Sequence[torch.Tensor]) -> bytes:
    """The frames and the heat over them, side by side, as an MP4 file."""
    panels = [frames, *(overlay_heat(frames, heat) for heat in heats)]
    gap = torch.full((len(frames), 3, frames.shape[2], 1), 255, dtype=torch.uint8)
    spaced = [part for panel in panels for part in (panel, gap)][:-1]
    return encode_film(enlarge(torch.cat(spaced, dim=3), FILM_HEIGHT), frames_per_second=FILM_RATE)


def _explain_evidence(subject: Subject) -> Part:
    trained, label = subject.trained, subject.labels[0]
    evidence = measure_evidence(trained, subject.view, seed=subject.seed)
    figure = plot_evidence(
        subject.view,
        evidence,
        trained.space,
        label=label,
        title=f"{subject.title}: {subject.caption()}",
    )
    return Part("evidence", figure, evidence.to_arrays(), remarks=evidence.remarks)


def _explain_gates(subject: Subject) -> Part:
    trained, view = subject.trained, subject.view
    gates = {path: g[0] for path, g in read_gates(trained.model, view.normalize().to(trained.device)).items()}
    signed = any(float(planes.min()) < 0 for planes in gates.values())
    figure = plot_gates(view.frames, gates, headings=view.headings, signed=signed, title=subject.title)
    return Part("gates", figure, {path: planes.numpy() for path, planes in gates.items()})


def _explain_chosen_frames(subject: Subject) -> Part:
    trained, view = subject.trained, subject.view
    found = find_chosen_frames(trained.model, view.normalize().to(trained.device))
    choices = {path: {name: kept[0] for name, kept in choice.items()} for path, choice in found.items()}
    figure = plot_chosen_frames(view.frames, choices, headings=view.headings, title=subject.title)
    arrays = {
        f"{path}/{name}": kept.numpy() for path, choice in choices.items() for name, kept in choice.items()
    }
    return Part("frames", figure, arrays)


def _explain_kernels(subject: Subject) -> Part:
    layers = read_kernels(subject.trained.model)
    arrays: Arrays = {}
    for path, layer in layers.items():
        arrays |= {f"{path}/weights": layer.weights.numpy(), f"{path}/offsets": np.array(layer.offsets)}
    return Part("kernels", plot_kernels(layers, title=subject.networks[0].title), arrays)


def _explain_positions(subject: Subject) -> Part:
    layers = read_position_kernels(subject.trained.model)
    arrays = {path: kernels.numpy() for path, kernels in layers.items()}
    return Part("positions", plot_position_kernels(layers, title=subject.networks[0].title), arrays)


METHODS: Mapping[str, Method] = {
    "tube": Method(
        "Saliency tube: the last feature map weighed by the class, over time and space. Bright places and frames "
        "speak most for the class; black ones least in this clip.",
        _explain_saliency("tube", "tube"),
    ),
    "grad_cam": Method(
        "Grad-CAM: in each frame the last feature map, weighed by the gradient of the class's logit. Black places "
        "say nothing for the class, or speak against it.",
        _explain_saliency("grad_cam", "grad_cam"),
    ),
    "evidence": Method(
        "Evidence over time. Left: the class's score in each frame by itself, and how its logit changes when the "
        "frame is taken away. Right: the scores when the frames run forward, backward, or shuffled (dots: each "
        "shuffle; bar: their mean).",
        _explain_evidence,
    ),
    "gates": Method(
        "GSM's gates: how much of each pixel's features moves to the frame before (first half of the channels) "
        "and to the frame after (second half), layer by layer.",
        _explain_gates,
    ),
    "frames": Method(
        "The frames that each MTConv's prolonged branch keeps: those that differ most from their neighbours.",
        _explain_chosen_frames,
    ),
    "kernels": Method(
        "Temporal kernels: each row of a panel is a channel, each column a frame (0: the present one), beside "
        "TSM's fixed kernels. Below: where the heaviest weight of each channel stands.",
        _explain_kernels,
        of_video=False,
    ),
    "positions": Method(
        "CTM's kernels: one of 3 x 3 over time and channels for every place of the map, and how much of its "
        "weight lies on the frame before, the same and the one after.",
        _explain_positions,
        of_video=False,
    ),
}
"""Name -> method, in the order of the page."""


def choose_methods(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names, each once and in the page's order; all of them for ``None``.

    Raises:
        ConfigError: an unknown name.
    """
    for name in names or ():
        if name not in METHODS:
            raise ConfigError(f"unknown method {name!r}: {did_you_mean(name, METHODS)}")
    return tuple(METHODS) if names is None else tuple(name for name in METHODS if name in names)


def apply_methods(subject: Subject, names: Sequence[str], *, of_video: bool, asked: bool) -> list[Part]:
    """The parts of some methods.

    Args:
        subject: what is explained.
        names: of the methods.
        of_video: take those that look at the clip, or those that show weights.
        asked: whether the user named the methods. If not, Grad-CAM is left out where there is a tube.
    """
    parts: list[Part] = []
    for name in names:
        if METHODS[name].of_video is not of_video:
            continue
        if name == "grad_cam" and not asked and any(part.name == "tube" and part.figure for part in parts):
            continue
        try:
            parts.append(METHODS[name].explain(subject))
        except DoesNotApplyError as error:
            parts.append(Part(name, remarks=(f"does not apply: {error}",)))
    return parts
