"""What is asked of the networks: the answers of `kinemix predict`, within limits, whatever else is sent."""

import json
import shutil

import numpy as np
import pytest

from kinemix.app.service import Limits, Service, read_examples
from kinemix.cli import main
from kinemix.errors import ConfigError, DataError, UnreadableVideoError


def test_answers_are_those_of_the_verb(service, runs, clips, capfd):
    for name, run in runs.items():
        words = ["predict", str(run), *map(str, clips[:2]), "--format", "json", "--top", "3"]
        assert main(words) == 0
        printed = json.loads(capfd.readouterr().out)
        for clip, wanted in zip(clips, printed, strict=False):
            found = service.predict(clip, name, top=3)
            assert found == {"file": clip.name, "model": name, "predictions": wanted["predictions"]}


def test_the_first_network_is_asked_where_none_is_named(service, clips):
    assert service.predict(clips[0])["model"] == "order"
    assert service.predict(clips[0], "plain")["predictions"] != service.predict(clips[0])["predictions"]
    with pytest.raises(ConfigError, match="no model 'plian' here: did you mean 'plain'"):
        service.predict(clips[0], "plian")


def test_a_clip_is_read_once_for_all_networks(service, clips, tmp_path):
    path = shutil.copy(clips[2], tmp_path / "mine.mp4")
    clip = service.read(tmp_path / "mine.mp4")
    (tmp_path / "mine.mp4").unlink()
    assert (clip.name, list(clip.frames)) == ("mine.mp4", ["order", "plain"])
    for name, recogniser in service.networks.items():
        assert list(service.answer(clip, name).predictions) == recogniser.predict(clips[2])
    assert not tmp_path.joinpath(path).exists()


def test_a_clip_that_cannot_be_read_is_named_without_its_folder(service, clips, tmp_path):
    bad = tmp_path / "text.mp4"
    bad.write_text("no video at all\n" * 20)
    with pytest.raises(UnreadableVideoError, match=r"^text\.mp4: not a video"):
        service.predict(bad)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clips[0].read_bytes()[:2000])
    with pytest.raises(UnreadableVideoError, match=r"^cut\.mp4: "):
        service.read(cut)
    with pytest.raises(UnreadableVideoError, match=r"^gone\.mp4: no such file"):
        service.read(tmp_path / "gone.mp4")
    assert service.predict(clips[0])["file"] == clips[0].name, "and it goes on"


def test_limits(networks, clips, tmp_path):
    size = clips[0].stat().st_size
    exact = Limits(megabytes=size / 2**20, seconds=1.0)  # 12 frames, 12 a second
    assert exact.bytes == size
    with Service(networks, limits=exact) as service:
        assert service.predict(clips[0])["predictions"]
    with (
        Service(networks, limits=Limits(megabytes=(size - 1) / 2**20)) as service,
        pytest.raises(DataError, match=f"^{clips[0].name}: The clip is larger than"),
    ):
        service.predict(clips[0])
    with (
        Service(networks, limits=Limits(seconds=0.9)) as service,
        pytest.raises(DataError, match=r"longer than 0\.9 s"),
    ):
        service.predict(clips[0])


@pytest.mark.parametrize("name", ["megabytes", "seconds", "waiting"])
def test_limits_that_let_nothing_in(name):
    with pytest.raises(ConfigError, match=f"max_{name} is 0: it must be more than 0"):
        Limits(**{name: 0})


def test_rankings_that_cannot_be(networks):
    with pytest.raises(ConfigError, match="top=0"):
        Service(networks, top=0)
    with pytest.raises(ConfigError, match=r"threshold=1\.5"):
        Service(networks, threshold=1.5)


def test_examples_are_read_before_anybody_comes(service, clips, tmp_path):
    same = tmp_path / "other" / clips[0].name
    same.parent.mkdir()
    shutil.copy(clips[1], same)
    seen = []
    examples = read_examples(service, [str(clips[0]), str(same)], on_read=lambda: seen.append(1))
    same.unlink()
    assert len(seen) == 2
    assert [example.clip.name for example in examples] == [
        f"{clips[0].parent.name}/{clips[0].name}", f"other/{clips[0].name}",
    ]  # fmt: skip
    (only,) = read_examples(service, [str(clips[0])])
    assert only.clip.name == clips[0].name
    assert only.thumbnail.shape == (3, 48, 48)
    answer = service.answer(examples[1].clip, "plain")
    assert list(answer.predictions) == service.networks["plain"].predict(clips[1])
    with pytest.raises(UnreadableVideoError, match="no such file"):
        read_examples(service, [str(same)])


def test_scores_are_finite_numbers_in_json(service, clips):
    text = json.dumps(service.predict(clips[3], top=12), allow_nan=False)
    found = json.loads(text)["predictions"]
    assert np.sum([one["score"] for one in found]) == pytest.approx(1)
