"""The score by frame, without a frame and in other orders, against the network asked directly."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from kinemix.config import Protocol
from kinemix.data.transforms import normalize_clip
from kinemix.explain import measure_evidence, plot_evidence, read_view

Trained = Callable[..., object]
VIDEO = torch.randint(0, 256, (20, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_view_is_what_the_network_gets(trained: Trained) -> None:
    network = trained()
    view = read_view(network, VIDEO)
    torch.testing.assert_close(network.model(view.normalize())[0], network.score(VIDEO))  # type: ignore[attr-defined]
    assert view.frames.dtype == torch.uint8
    assert len(view.indices) == len(view.frames) == len(view.headings) == 6


def test_view_is_the_middle_clip_and_the_central_crop(trained: Trained) -> None:
    network = trained()
    protocol: Protocol = network.protocol  # type: ignore[attr-defined]
    alone = read_view(network, VIDEO)
    network.protocol = replace(protocol, num_clips=3, num_crops=3)  # type: ignore[attr-defined]
    from kinemix.data.views import read_views

    views = read_views(network.open(VIDEO), network.protocol)  # type: ignore[attr-defined]
    view = read_view(network, VIDEO)
    torch.testing.assert_close(view.normalize()[0], views[4])
    assert view.frames.shape == alone.frames.shape


def test_evidence_is_what_the_network_says(trained: Trained) -> None:
    network = trained()
    network.protocol = replace(network.protocol, difference="clip_mean")  # type: ignore[attr-defined]
    model, view = network.model, read_view(network, VIDEO)  # type: ignore[attr-defined]
    found = measure_evidence(network, view, num_shuffles=3, seed=5)
    frames = view.frames

    def ask(kept: list[int]) -> torch.Tensor:
        return model(normalize_clip(frames[kept], protocol=network.protocol)[None])[0].detach()  # type: ignore[attr-defined]

    everything = list(range(6))
    torch.testing.assert_close(found.forward, ask(everything))
    torch.testing.assert_close(found.reversed, ask(everything[::-1]))
    for place in everything:
        torch.testing.assert_close(found.without[place], ask([t for t in everything if t != place]))
    generator = torch.Generator().manual_seed(5)
    for logits in found.shuffled:
        torch.testing.assert_close(logits, ask(torch.randperm(6, generator=generator).tolist()))
    assert found.by_step.shape == (6, 12)
    torch.testing.assert_close(found.by_step.mean(dim=0), found.forward)
    assert "playing the others" in found.remarks[0]


def test_an_orderless_network_says_the_same_in_every_order(trained: Trained) -> None:
    network = trained("tsn_resnet18")
    found = measure_evidence(network, read_view(network, VIDEO))  # type: ignore[attr-defined]
    torch.testing.assert_close(found.reversed, found.forward)
    torch.testing.assert_close(found.shuffled, found.forward.expand(8, -1))


def test_a_network_bound_to_its_frames_gets_a_neighbour_instead(trained: Trained) -> None:
    network = trained()
    network.model.fixed_length = "this module"  # type: ignore[attr-defined]
    view = read_view(network, VIDEO)
    found = measure_evidence(network, view)  # type: ignore[attr-defined]
    for place, instead in ((0, [1, 1, 2, 3, 4, 5]), (3, [0, 1, 2, 2, 4, 5])):
        torch.testing.assert_close(found.without[place], network.model(view.normalize(instead))[0].detach())  # type: ignore[attr-defined]
    assert "this module is bound" in found.remarks[0]


def test_a_clip_network_without_linear_head_has_no_score_by_frame(trained: Trained) -> None:
    network = trained("x3d_s")
    view = read_view(network, VIDEO)
    found = measure_evidence(network, view, num_shuffles=1)  # type: ignore[attr-defined]
    assert found.by_step is None
    assert "No score by frame: X3D's classifier" in found.remarks[0]
    figure = plot_evidence(view, found, network.space)  # type: ignore[attr-defined]
    assert "does not apply" in [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "by_step" not in found.to_arrays()


@pytest.mark.parametrize("num_classes", [1, 4, 174])
def test_picture_shows_the_class_and_its_changes(trained: Trained, num_classes: int) -> None:
    names = tuple(f"Pretending to put something number {k} behind something" for k in range(num_classes))
    network = trained(class_names=names)
    view = read_view(network, VIDEO)
    found = measure_evidence(network, view, num_shuffles=2)  # type: ignore[attr-defined]
    figure = plot_evidence(view, found, network.space, label=0)
    steps, losses, orders = figure.axes[1:4]
    assert [bar.get_height() for bar in steps.patches] == pytest.approx(
        found.by_step.softmax(1)[:, 0].tolist()
    )
    assert [bar.get_height() for bar in losses.patches] == pytest.approx(
        (found.without[:, 0] - found.forward[0]).tolist(), abs=1e-5
    )
    assert len(orders.get_yticklabels()) == min(5, num_classes)
    assert orders.get_yticklabels()[0].get_text().replace("\n", " ").startswith("Pretending to put")
