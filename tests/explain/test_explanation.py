"""`kinemix explain` writes what the functions give, and tells what goes wrong before it writes anything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinemix.cli import main
from kinemix.deploy.predict import Recogniser, load
from kinemix.explain import Network, compute_saliency, explain_video, read_gates, read_view

Trained = Callable[..., Recogniser]
SaveRun = Callable[..., Path]


@pytest.fixture
def clip(motion: Path) -> Path:
    return motion / "val" / "move_left" / "00000.mp4"


def test_explain_writes_pictures_films_arrays_and_a_page(
    trained: Trained, save_run: SaveRun, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = save_run("gsm", trained("gsm_resnet18")), save_run("tsn", trained("tsn_resnet18"))
    second = clip.parents[1] / "grow" / "00001.mp4"
    out = tmp_path / "out"
    assert main(["explain", str(run), str(clip), str(second), "--beside", str(other), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    names = ("arrays.npz", "evidence.png", "gates.png", "tube.mp4", "tube.png")
    assert files == {"index.html"} | {f"{f}/{n}" for f in ("move_left-00000", "grow-00001") for n in names}
    network = load(run)
    view = read_view(network, clip)
    label = int(network.score(clip).argmax())
    with np.load(out / "move_left-00000" / "arrays.npz") as arrays:
        heat = compute_saliency(network.model, view.normalize(), [label]).heat[0]
        np.testing.assert_allclose(arrays["tube/heat"], heat.numpy(), atol=1e-5)
        np.testing.assert_array_equal(arrays["frames"], view.frames.numpy())
        np.testing.assert_allclose(arrays["logits"], network.score(clip).numpy(), atol=1e-4)
        assert arrays["label"] == label
        path, planes = next(iter(read_gates(network.model, view.normalize()).items()))
        np.testing.assert_allclose(arrays[f"gates/{path}"], planes[0].numpy(), atol=1e-5)
        assert arrays["evidence/without"].shape == (6, 12)
    page = (out / "index.html").read_text()
    assert page.count("<video") == 2
    assert "tsn_resnet18 answers" in page
    assert "does not apply: the network has no temporal kernels of one channel each" in page
    assert "<h3>grad_cam" not in page  # there is a tube


def test_one_class_and_some_methods_can_be_asked_for(
    trained: Trained, save_run: SaveRun, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run("mst", trained())
    words = ["explain", str(run), str(clip), "--label", "vanish", "--methods", "grad_cam", "kernels", "gates"]
    assert main([*words, "--form", "pictures"]) == 0
    assert "gates: does not apply: the network has no gate planes" in capsys.readouterr().err
    out = run / "explain"
    assert {path.name for path in out.rglob("*") if path.is_file()} == {
        "grad_cam.png", "grad_cam.mp4", "arrays.npz", "kernels.png", "weights.npz",
    }  # fmt: skip
    network = load(run)
    view, label = read_view(network, clip), network.class_names.index("vanish")
    with np.load(out / "move_left-00000" / "arrays.npz") as arrays:
        expected = compute_saliency(network.model, view.normalize(), [label], way="grad_cam").heat[0]
        np.testing.assert_allclose(arrays["grad_cam/heat"], expected.numpy(), atol=1e-5)
        assert arrays["label"] == label


def test_a_page_alone_holds_everything(
    trained: Trained, save_run: SaveRun, clip: Path, tmp_path: Path
) -> None:
    run = save_run("mst", trained())
    assert main(["explain", str(run), str(clip), "--form", "page", "--out", str(tmp_path / "page")]) == 0
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "move_lefd"], "unknown class 'move_lefd': did you mean 'move_left'"),
        (["--methods", "tubes"], "unknown method 'tubes': did you mean 'tube'"),
        (["--beside", "OTHER"], "look at different frames"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_writes_nothing(
    trained: Trained,
    save_run: SaveRun,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    run = save_run("mst", trained())
    other = save_run("other", trained("tsn_resnet18", num_frames=4))
    words = [str(other) if word == "OTHER" else word for word in words]
    out = tmp_path / "out"
    assert main(["explain", str(run), str(clip), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not out.exists()


def test_an_unreadable_video_does_not_stop_the_others(
    trained: Trained, save_run: SaveRun, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, broken = save_run("mst", trained()), tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out"
    words = ["explain", str(run), str(broken), str(clip), "--methods", "tube", "--out", str(out)]
    assert main(words) == 2
    assert "broken.mp4" in capsys.readouterr().err
    assert (out / "move_left-00000" / "tube.png").is_file()
    assert main(["explain", str(run), str(broken), "--out", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()


def test_a_method_that_does_not_apply_says_why(trained: Trained) -> None:
    video = torch.randint(0, 256, (10, 3, 40, 40), dtype=torch.uint8)
    network = Network("x3d_s", trained("x3d_s"))
    parts = {p.name: p for p in explain_video([network], video, title="v").parts}
    assert parts["tube"].figure is None
    assert parts["tube"].remarks[0].startswith("does not apply: X3D's classifier")
    assert parts["grad_cam"].figure is not None
    assert parts["gates"].figure is None


def test_networks_of_other_normalisation_stand_side_by_side(trained: Trained) -> None:
    video = torch.randint(0, 256, (10, 3, 40, 40), dtype=torch.uint8)
    first, second = trained("tsn_resnet18"), trained("mstnet_resnet18")
    second.protocol = replace(
        second.protocol, input=replace(second.protocol.input, color="bgr"), contrast="clip"
    )
    found = explain_video([Network("a", first), Network("b", second)], video, title="v", methods=["tube"])
    strip = found.parts[0].figure
    assert strip is not None
    assert len(strip.axes) == 3 * 6
    assert list(found.answers) == ["a", "b"]
