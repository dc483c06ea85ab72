"""Strips, heat and films show what they were given, and the palette tells its groups apart."""

import io
from itertools import combinations

import av
import matplotlib
import numpy as np
import pytest
import torch
from legible import assert_no_overlap

from kinemix.data.catalog.official import read_classes
from kinemix.data.film import encode_film
from kinemix.explain.axes import shorten_names
from kinemix.explain.filmstrip import plot_filmstrip, spread_frames, wrap_label, wrap_path
from kinemix.explain.heatmap import color_values, enlarge, overlay_heat
from kinemix.explain.page import Page, render_png
from kinemix.explain.palette import HEAT, SIGNED, pick_styles
from kinemix.explain.plots import plot_curves


def test_no_two_of_many_groups_look_alike() -> None:
    styles = pick_styles(56)
    assert len(set(styles)) == 56
    assert len({style.color for style in styles[:7]}) == 7
    for first, second in combinations(styles[:7], 2):
        assert first.marker != second.marker


def test_values_get_the_colours_of_the_map() -> None:
    values = torch.tensor([[[-3.0, -1.0], [0.0, 9.0]]])
    pixels = color_values(values, low=-1, high=1, color_map=SIGNED)
    for (row, column), share in {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 0.5, (1, 1): 1.0}.items():
        expected = matplotlib.colormaps[SIGNED](share, bytes=True)[:3]
        assert tuple(pixels[0, :, row, column].tolist()) == expected


def test_heat_covers_more_where_it_is_greater() -> None:
    frames = torch.full((1, 3, 1, 3), 100, dtype=torch.uint8)
    frames[:, 0] = 160  # not grey
    heat = torch.tensor([[[0.0, 0.25, 1.0]]])
    shown = overlay_heat(frames, heat, strength=0.8)[0, :, 0].float()
    grey = 0.299 * 160 + 0.587 * 100 + 0.114 * 100
    torch.testing.assert_close(shown[:, 0], torch.full((3,), grey), atol=0.5, rtol=0)
    for place, cover in ((1, 0.4), (2, 0.8)):
        color = torch.tensor(matplotlib.colormaps[HEAT](float(heat[0, 0, place]), bytes=True)[:3])
        torch.testing.assert_close(
            shown[:, place], (1 - cover) * grey + cover * color.float(), atol=0.6, rtol=0
        )


def test_heat_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="heat of"):
        overlay_heat(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 5))


def test_small_frames_grow_by_whole_pixels_and_large_ones_stay() -> None:
    frames = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    large = enlarge(frames, 7)
    assert large.shape == (1, 3, 8, 8)
    torch.testing.assert_close(large[..., ::4, ::4], frames)
    assert enlarge(frames, 1).shape == frames.shape


def test_strip_has_a_heading_for_each_frame_and_wraps_long_captions() -> None:
    frames = torch.zeros(3, 3, 4, 8, dtype=torch.uint8)
    name = "Putting something similar to other things that are already on the table"
    figure = plot_filmstrip({name: frames}, headings=["a", "b", "c"], title="t")
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    assert max(len(line) for line in figure.axes[0].get_ylabel().split("\n")) <= 22
    assert wrap_label("x" * 200, 10, 2).count("\n") == 1
    assert spread_frames(16, 4) == [0, 5, 10, 15]
    assert wrap_path("stages.0.blocks.1.conv1", 17) == "stages.0.blocks.\n1.conv1"


def test_long_strip_goes_on_below() -> None:
    frames = torch.arange(11, dtype=torch.uint8).view(11, 1, 1, 1).expand(11, 3, 4, 4)
    figure = plot_filmstrip({"a": frames, "b": frames}, num_frames=None, headings=[str(i) for i in range(11)])
    rows = [figure.axes[row * 6 : row * 6 + 6] for row in range(4)]
    shown = [[int(axes.images[0].get_array()[0, 0, 0]) for axes in row if axes.images] for row in rows]
    first, second = list(range(6)), list(range(6, 11))
    assert shown == [first, first, second, second]
    assert [axes.get_title() for axes in rows[2] if axes.images] == [str(i) for i in second]
    assert [row[0].get_ylabel() for row in rows] == ["a", "b", "a", "b"]


def test_film_plays_back_as_it_was_given() -> None:
    levels = torch.tensor([20, 90, 160, 230], dtype=torch.uint8)
    film = encode_film(levels.view(4, 1, 1, 1).expand(4, 3, 15, 33), frames_per_second=5)
    with av.open(io.BytesIO(film)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 5
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [picture.shape for picture in pictures] == [(16, 34, 3)] * 4
    means = [picture.mean() for picture in pictures]
    np.testing.assert_allclose(means, levels.numpy(), atol=3)


def test_page_holds_pictures_and_films_in_one_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    figure = plot_curves({"net": [{"epoch": 1, "train_loss": 1.0, "val_top1": 0.5}]})
    page = Page("title")
    page.add_heading("part", level=3)
    page.add_figures((figure, "as it is"), (render_png(figure), "as a file"))
    page.add_film(b"film", "a film")
    page.write(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "<h3>part</h3>" in text
    assert text.count("data:image/png;base64,") == 2
    assert text.count("data:video/mp4;base64,ZmlsbQ==") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_a_strip_of_small_pictures_has_room_for_its_captions() -> None:
    frames = torch.zeros(8, 3, 4, 16, dtype=torch.uint8)
    names = [
        f"{way}: Pretending to put something on a surface\nTSN: Turning the camera {way}" for way in "abc"
    ]
    assert_no_overlap(plot_filmstrip(dict.fromkeys(names, frames)))


@pytest.mark.parametrize("letters", [26, 34, 48])
def test_shortened_names_stay_distinct_and_keep_what_differs(letters: int) -> None:
    names = read_classes("something_something")
    short = shorten_names(names, letters)
    assert list(short) == list(names)
    assert len(set(short.values())) == 174
    assert all(written == name for name, written in short.items() if len(name) <= letters)
    longer = [written for written in short.values() if len(written) > letters]
    assert len(longer) <= (8 if letters == 26 else 0)
    assert all(len(written) <= letters + 8 for written in longer)
    for way in ("left", "right", "up", "down"):
        turning = next(name for name in names if name.startswith("Turning the camera") and way in name)
        assert way in short[turning]
    assert shorten_names(["a" * 9, "b"], 5) == {"a" * 9: "aa…aa", "b": "b"}
    assert shorten_names([], 5) == {}
