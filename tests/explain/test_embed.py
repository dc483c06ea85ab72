"""Features are what passes at a layer, points a projection of them, groups the classes that were asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from kinemix.cli import main
from kinemix.cli.explain import split_runs
from kinemix.data.catalog.motion import CLASSES
from kinemix.data.loader import build_test_loader
from kinemix.data.sources import open_annotations
from kinemix.deploy.predict import Recogniser, load
from kinemix.errors import ConfigError, KinemixError
from kinemix.explain import (
    collect_features,
    group_samples,
    measure_separation,
    plot_embedding,
    project_features,
)
from kinemix.explain.groups import Groups, read_groups

Trained = Callable[..., Recogniser]
SaveRun = Callable[..., Path]


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Three groups of 12 vectors that stand far apart."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 12)
    centres = 20 * random.normal(size=(3, 8))
    return (centres[labels] + random.normal(size=(36, 8))).astype(np.float32), labels


@pytest.mark.parametrize("name", ["mstnet_resnet18", "x3d_s"])
def test_features_are_what_passes_at_a_layer(trained: Trained, motion: Path, name: str) -> None:
    network = trained(name)
    annotations, _ = open_annotations(str(motion), class_names=CLASSES)
    annotations = annotations.pick(range(3))
    loader = build_test_loader(annotations, protocol=network.protocol, batch_size=2, workers=0)
    layer = network.model.blocks[-1]
    found = collect_features(network.model, loader, layers=["features", layer])
    assert found.indices.tolist() == [0, 1, 2]
    seen: list[torch.Tensor] = []
    network.model.backbone.get_submodule(layer).register_forward_hook(lambda _m, _a, out: seen.append(out))
    for place, sample in enumerate(annotations.samples):
        with network.open(sample.path) as reader:
            from kinemix.data.views import read_views

            views = read_views(reader, network.protocol)
        features = network.model.forward_features(views)[0].mean(dim=0)
        np.testing.assert_allclose(found.vectors["features"][place], features.numpy(), rtol=1e-3, atol=1e-4)
        axes = (0, 2, 3) if name.startswith("mst") else (0, 2, 3, 4)  # BT C H W; B C T H W
        expected = seen.pop().mean(dim=axes)
        np.testing.assert_allclose(found.vectors[layer][place], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_unknown_layers_are_told(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"no layer 'layer9.0': did you mean"):
        collect_features(trained().model, [], layers=["layer9.0"])


@pytest.mark.parametrize("way", ["tsne", "pca"])
def test_what_stands_apart_stays_apart(blobs: tuple[np.ndarray, np.ndarray], way: str) -> None:
    vectors, labels = blobs
    points = project_features(vectors, way=way)  # type: ignore[arg-type]
    assert points.shape == (36, 2)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(36)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(points, project_features(vectors, way=way))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:umap", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("way", "module"), [("opentsne", "openTSNE"), ("umap", "umap")])
def test_projections_of_extras_that_take_long_to_load(
    blobs: tuple[np.ndarray, np.ndarray], way: str, module: str
) -> None:
    pytest.importorskip(module)
    vectors, labels = blobs
    points = project_features(vectors, way=way)  # type: ignore[arg-type]
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(36)
    assert (labels[distances.argmin(axis=1)] == labels).all()


def test_what_is_missing_or_too_few_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "umap":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(KinemixError, match=r"pip install 'kinemix\[umap\]'"):
        project_features(np.eye(9, dtype=np.float32), way="umap")
    with pytest.raises(ConfigError, match="4 videos are too few"):
        project_features(np.eye(4, dtype=np.float32))
    with pytest.raises(ConfigError, match="perplexity is 0"):
        project_features(np.eye(9, dtype=np.float32), perplexity=0)


def test_separation_equals_its_definition(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, labels = blobs
    members = labels.copy()
    members[::5] = -1  # others do not count
    members[3] = 2  # one stands with the wrong group
    found = measure_separation(vectors, Groups(("a", "b", "c"), members))
    kept = [i for i in range(36) if members[i] >= 0]
    alike, silhouettes = [], []
    for i in kept:
        others = sorted(
            (j for j in kept if j != i), key=lambda j: float(np.linalg.norm(vectors[i] - vectors[j]))
        )
        alike += [members[j] == members[i] for j in others[:5]]
        means = {
            g: np.mean([np.linalg.norm(vectors[i] - vectors[j]) for j in others if members[j] == g])
            for g in range(3)
        }
        own = means.pop(members[i])
        nearest = min(means.values())
        silhouettes.append((nearest - own) / max(nearest, own))
    pairs = [(i, j) for i in kept for j in kept if i != j]
    assert found is not None
    assert found.neighbours == pytest.approx(np.mean(alike))
    assert found.chance == pytest.approx(np.mean([members[i] == members[j] for i, j in pairs]))
    assert found.silhouette == pytest.approx(np.mean(silhouettes), rel=1e-4)
    assert measure_separation(vectors, Groups(("a",), np.full(36, -1))) is None
    assert measure_separation(vectors, Groups(tuple("abc"), np.array([0, 1, 2] + [-1] * 33))) is None


def test_a_small_group_can_be_wholly_apart() -> None:
    """Three videos have two neighbours to be alike, not five; one alone has none."""
    places = np.array([0, 1, 2, 50, 51, 52, 53, 54, 55, 56, 90.0])
    found = measure_separation(
        places[:, None], Groups(("few", "many", "one"), np.array([0] * 3 + [1] * 7 + [2]))
    )
    assert found is not None
    assert found.neighbours == 1
    assert found.chance == pytest.approx((3 * 2 / 10 + 7 * 6 / 10) / 10)


def test_few_classes_are_all_told_apart_and_of_many_the_largest() -> None:
    few = group_samples(np.array([2, 0, 2]), ["a", "b", "c"])
    assert (few.names, few.members.tolist()) == (("a", "c"), [1, 0, 1])
    names = [f"class {k}" for k in range(174)]
    labels = np.concatenate([np.arange(174), np.repeat(np.arange(100, 110), 3)])
    many = group_samples(labels, names)
    assert many.names == tuple(names[100:110])
    assert (many.members >= 0).sum() == 40
    assert "10 of 174 classes" in many.remark


def test_classes_and_groups_are_chosen_by_name_or_pattern(tmp_path: Path) -> None:
    names = ["Putting a", "Putting b", "Moving a", "Taking [x]", "Rest"]
    labels = np.arange(5)
    chosen = group_samples(labels, names, classes=["Putting*", "Taking [x]"])
    assert chosen.names == ("Putting a", "Putting b", "Taking [x]")
    assert chosen.members.tolist() == [0, 1, -1, 2, -1]
    path = tmp_path / "groups.yaml"
    path.write_text("putting: [Putting*]\nothers: [Moving a, 'Taking [x]']\n")
    together = group_samples(labels, names, groups=read_groups(path))
    assert (together.names, together.members.tolist()) == (("putting", "others"), [0, 0, 1, 1, -1])
    with pytest.raises(ConfigError, match="no class fits 'Puting a': did you mean 'Putting a'"):
        group_samples(labels, names, classes=["Puting a"])
    with pytest.raises(ConfigError, match="'Putting a' is in the groups 'x' and 'y'"):
        group_samples(labels, names, groups={"x": ["Putting*"], "y": ["Putting a"]})
    with pytest.raises(ConfigError, match="174 groups cannot be told apart"):
        group_samples(np.arange(174), [str(k) for k in range(174)], classes=["*"])
    for text in ("[a, b]", "a: b", "a: [", ""):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"groups\.yaml"):
            read_groups(path)


def test_picture_has_every_point_and_the_same_legend_for_all(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, labels = blobs
    members = labels - 1  # the first group are others
    groups = Groups(("a long name " * 4, "b"), members)
    points = vectors[:, :2]
    figure = plot_embedding({"one": (points, groups), "two": (points, groups)})
    for axes in figure.axes[:2]:
        drawn = np.concatenate([part.get_offsets() for part in axes.collections])
        np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(points, axis=0))
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[1:] == ["b", "others"]
    assert max(len(line) for line in texts[0].split("\n")) <= 26


def test_embed_draws_two_runs_side_by_side_and_saves_the_features(
    trained: Trained, save_run: SaveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(save_run("tsn", trained("tsn_resnet18"))), str(save_run("mst", trained()))]
    out = tmp_path / "out"
    assert main(["embed", *runs, "--out", str(out), "--workers", "0", "--way", "pca"]) == 0
    printed = capsys.readouterr().out
    assert "24 videos, 12 groups" in printed
    assert printed.strip().endswith(str(out / "embedding.png"))
    assert sorted(path.name for path in out.iterdir()) == [
        "embedding.png", "mstnet_resnet18.parquet", "tsn_resnet18.parquet",
    ]  # fmt: skip
    table = pq.read_table(out / "mstnet_resnet18.parquet").to_pydict()
    assert list(table) == ["id", "label", "class", "group", "x", "y", "features"]
    network = load(runs[1])
    from kinemix.data.views import read_views

    with network.open(table["id"][7]) as reader:
        views = read_views(reader, network.protocol)
    expected = network.model.forward_features(views)[0].mean(dim=0)
    np.testing.assert_allclose(table["features"][7], expected.numpy(), rtol=1e-3, atol=1e-4)
    assert table["class"][7] == CLASSES[table["label"][7]] == Path(table["id"][7]).parent.name


def test_embed_shows_layers_and_chosen_classes_of_other_data(
    trained: Trained, save_run: SaveRun, motion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = save_run("mst", trained()), tmp_path / "out"
    words = [
        "embed",
        str(run),
        str(motion),
        "--out",
        str(out),
        "--workers",
        "0",
        "--way",
        "pca",
        "--save",
        "npz",
    ]
    assert main([*words, "--last_blocks", "2", "--classes", "move_*"]) == 0
    with np.load(out / "features.npz") as arrays:
        layers = load(run).model.blocks[-2:]
        assert {name for name in arrays if "/" in name} == {
            f"{layer}/{what}" for layer in layers for what in ("features", "points")
        }
        assert sorted(set(arrays["groups"])) == ["move_down", "move_left", "move_right", "move_up"]
    assert main([*words, "--last_blocks", "9"]) == 2
    assert "this network has 4 blocks" in capsys.readouterr().err
    assert main(["embed", str(run), str(run), "--workers", "0"]) == 2
    assert "the same run twice" in capsys.readouterr().err


def test_the_last_word_may_be_data(trained: Trained, save_run: SaveRun, motion: Path) -> None:
    run = str(save_run("mst", trained()))
    assert split_runs([run, run]) == ([run, run], None)
    assert split_runs([run, str(motion)]) == ([run], str(motion))
    assert split_runs([str(motion)]) == ([str(motion)], None)
