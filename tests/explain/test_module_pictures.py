"""Gates, kernels and chosen frames are those by which the modules really work."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import kinemix
from kinemix.explain import (
    DoesNotApplyError,
    find_chosen_frames,
    make_tsm_kernels,
    plot_chosen_frames,
    plot_gates,
    plot_kernels,
    plot_position_kernels,
    read_gates,
    read_kernels,
    read_position_kernels,
)
from kinemix.explain.gates import _round_up
from kinemix.explain.kernels import Kernels
from kinemix.explain.position_kernels import share_times

Trained = Callable[..., object]
CLIP = torch.randn(1, 6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
FRAMES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)


def get_model(trained: Trained, name: str, **options: object) -> kinemix.VideoModel:
    return trained(name, **options).model  # type: ignore[attr-defined, no-any-return]


def watch_inputs(model: kinemix.VideoModel) -> dict[str, Tensor]:
    """What goes into every temporal module, by its host's path."""
    seen: dict[str, Tensor] = {}
    for module in model.temporal_modules().values():
        module.register_forward_pre_hook(lambda m, args: seen.__setitem__(m.site.path, args[0].detach()))
    with torch.no_grad():
        model(CLIP)
    return seen


def test_gates_are_those_of_the_equation(trained: Trained) -> None:
    model = get_model(trained, "gsm_resnet18")
    gates = read_gates(model, CLIP)
    seen = watch_inputs(model)
    assert list(gates) == [site.path for site in model.sites]
    module = next(iter(model.temporal_modules().values()))
    clip = seen[module.site.path]
    norm, conv = module.norm, module.gate_conv
    normed = (clip - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    normed = (normed * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()[0].detach()
    T, C, H, W = normed.shape
    for half, t, y, x in ((0, 0, 0, 0), (1, 3, 4, 2), (0, 5, 7, 7), (1, 2, 0, 5)):
        total = float(conv.bias[half])
        for c, dt, dy, dx in product(range(C // 2), range(3), range(3), range(3)):
            place = (t + dt - 1, y + dy - 1, x + dx - 1)
            if 0 <= place[0] < T and 0 <= place[1] < H and 0 <= place[2] < W:
                pixel = normed[place[0], half * C // 2 + c, place[1], place[2]]
                total += float(conv.weight[half, c, dt, dy, dx] * pixel)
        assert float(gates[module.site.path][0, t, half, y, x]) == pytest.approx(np.tanh(total), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mstnet_resnet18", {}),
        ("mixtconv_resnet18", {"kernel_sizes": [3, 3, 3], "dilations": [1, 2, 3]}),
        ("depthwise_resnet18", {"kernel_size": 5}),
        ("depthwise_resnet18", {"kernel_size": 3, "causal": True}),
        ("tsm_resnet18", {}),
        ("tsm_resnet18", {"causal": True}),
    ],
)
def test_kernels_are_what_an_impulse_brings_out(
    trained: Trained, name: str, options: dict[str, object]
) -> None:
    """A single one at frame 6 comes out at frame 6 - offset, times the weight of that offset."""
    model = get_model(trained, name, **options)
    layers = read_kernels(model)
    for module in model.temporal_modules().values():
        layer = layers[module.site.path]
        impulse = torch.zeros(1, 13, module.site.channels, 1, 1)
        impulse[:, 6] = 1
        with torch.no_grad():
            out = module(impulse)[0, :, :, 0, 0]
        expected = torch.zeros_like(out)
        for column, offset in enumerate(layer.offsets):
            expected[6 - offset] = layer.weights[:, column]
        torch.testing.assert_close(out, expected)


def test_tsm_is_drawn_as_it_works(trained: Trained) -> None:
    model = get_model(trained, "tsm_resnet18")
    path, layer = next(iter(read_kernels(model).items()))
    torch.testing.assert_close(layer.weights, make_tsm_kernels(len(layer.weights)).weights)
    assert layer.directions == {"before": 0.125, "present": 0.75, "after": 0.125}
    figure = plot_kernels({path: layer})
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown, layer.weights.numpy())


def test_picture_of_kernels_starts_with_tsm_and_has_a_panel_a_layer(trained: Trained) -> None:
    layers = read_kernels(get_model(trained, "mstnet_resnet18"))
    figure = plot_kernels(layers)
    titles = [axes.get_title().replace("\n", "") for axes in figure.axes if axes.images and axes.get_title()]
    assert titles == ["TSM (fixed)", *layers]
    for axes, layer in zip(figure.axes[1:], layers.values(), strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), layer.weights.numpy())


def test_directions_count_the_heaviest_weights() -> None:
    weights = torch.tensor([[0.1, -2.0, 1.0], [3.0, 0.0, 1.0], [0.0, 0.1, -0.5], [0.0, 1.0, 0.0]])
    assert Kernels(weights, (-1, 0, 1), (4,)).directions == {"before": 0.25, "present": 0.5, "after": 0.25}


def test_position_kernels_are_what_an_impulse_brings_out(trained: Trained) -> None:
    model = get_model(trained, "ctm_resnet18", input_size=64)
    layers = read_position_kernels(model)
    module = next(iter(model.temporal_modules().values()))
    kernels = layers[module.site.path]
    look = module.paths["tccm"].look
    H, W = kernels.shape[:2]
    assert (module.site.height, module.site.width) == (H, W)
    impulse = torch.zeros(1, 5, 5, H, W)
    impulse[:, 2, 2] = 1
    with torch.no_grad():
        out = look(impulse)[0]
    for dt, dc in product((-1, 0, 1), repeat=2):  # what came before is seen one frame later
        torch.testing.assert_close(out[2 - dt, 2 - dc], kernels[:, :, 1 + dt, 1 + dc])
    shares = share_times(kernels)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(H, W))
    torch.testing.assert_close(shares[0], kernels[:, :, 0].abs().sum(-1) / kernels.abs().sum((-1, -2)))
    figure = plot_position_kernels(layers)
    mosaic = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(mosaic[4:7, 0:3], kernels[1, 0].numpy())
    assert np.ma.getmaskarray(np.ma.masked_invalid(mosaic))[3].all()


def test_chosen_frames_are_those_that_differ_most(trained: Trained) -> None:
    model = get_model(trained, "mtnet_s", delta=0.5)
    chosen = find_chosen_frames(model, CLIP)
    seen = watch_inputs(model)
    for path in list(chosen)[:3]:
        module = next(m for m in model.temporal_modules().values() if m.site.path == path)
        clip = seen[path]
        volume = clip.transpose(1, 2)
        local = module.local(volume[:, : module.channels.local_in]).transpose(1, 2)
        parts = {"input": clip, "local": local}
        for name, part in parts.items():
            windows = part[0, :, :, : part.shape[3] // 2 * 2, : part.shape[4] // 2 * 2]
            T, C, H, W = windows.shape
            cut = windows.reshape(T, C, H // 2, 2, W // 2, 2).permute(0, 1, 2, 4, 3, 5).flatten(4)
            vectors = (cut.softmax(-1) * cut).sum(-1).sum((2, 3))  # SoftPool, summed over space
            scores = {
                t: float(F.cosine_similarity(vectors[t], vectors[t - 1], 0))
                + float(F.cosine_similarity(vectors[t], vectors[t + 1], 0))
                for t in range(1, T - 1)
            }
            kept = sorted(sorted(scores, key=scores.__getitem__)[: T // 2])
            assert chosen[path][name][0].nonzero().flatten().tolist() == kept


def test_methods_say_which_networks_they_are_for(trained: Trained) -> None:
    plain, shifted = get_model(trained, "tsn_resnet18"), get_model(trained, "tsm_resnet18")
    with pytest.raises(DoesNotApplyError, match="no gate planes: it has no temporal modules"):
        read_gates(plain, CLIP)
    with pytest.raises(DoesNotApplyError, match="no gate planes: its temporal modules are tsm"):
        read_gates(shifted, CLIP)
    for ask in (read_kernels, read_position_kernels):
        with pytest.raises(DoesNotApplyError):
            ask(plain)
    with pytest.raises(DoesNotApplyError, match="frame selection"):
        find_chosen_frames(shifted, CLIP)
    with pytest.raises(DoesNotApplyError, match="'temporal' alone"):
        read_position_kernels(get_model(trained, "ctm_resnet18", paths="temporal"))
    with pytest.raises(DoesNotApplyError, match="select no frames"):
        find_chosen_frames(get_model(trained, "mtnet_s", frame_selection=False), CLIP)


@pytest.mark.parametrize(("value", "end"), [(0.0, 1.0), (0.013, 0.02), (0.2, 0.2), (0.21, 0.5), (0.7, 1.0)])
def test_scale_of_gates_ends_at_a_number_that_can_be_read(value: float, end: float) -> None:
    assert _round_up(value) == pytest.approx(end)


def test_pictures_of_gates_and_frames_show_their_planes() -> None:
    gates = {"layer1": torch.rand(6, 2, 4, 4) - 0.5, "layer2": torch.rand(6, 2, 2, 2) - 0.5}
    figure = plot_gates(FRAMES, gates, headings=tuple("abcdef"))
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    for planes in gates.values():
        for t, half in product(range(6), range(2)):
            assert any(np.array_equal(one, planes[t, half].numpy()) for one in shown)
    choices = {"conv": {"input": torch.tensor([0, 1, 1, 0, 1, 0]) > 0, "local": torch.tensor([0, 1, 0]) > 0}}
    rows, counts = plot_chosen_frames(FRAMES, choices).axes[1:3]
    marks = [line.get_xdata().tolist() for line in rows.lines if line.get_marker() in "os"]
    assert marks == [[1.5, 2.5, 4.5], [3.0]]
    assert [bar.get_height() for bar in counts.patches] == [0, 50, 100, 50, 50, 0]
