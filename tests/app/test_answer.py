"""A network's answer to a clip is what it answers elsewhere, and the page shows all of it."""

import base64
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_recognisers import make_recogniser

from kinemix.app.answer import answer_clip
from kinemix.app.panels import encode_picture, render_refusal, render_reply
from kinemix.explain.saliency import compute_saliency
from kinemix.explain.view import read_view
from kinemix.label_space import LabelSpace

TASKS = LabelSpace.of_tasks(
    {"verb": ("cut", "wash"), "noun": ("cup", "pan", "egg"), "action": ("cut egg", "wash pan")}
)
SEVERAL = LabelSpace(class_names=("runs", "jumps", "waves", "<sits>"), multilabel=True)


def read(page: str, pattern: str) -> list[str]:
    return [html.unescape(found.replace("<wbr>", "")) for found in re.findall(pattern, page)]


def read_rankings(page: str, kind: str) -> list[list[tuple[str, str]]]:
    """Label and score of every row, table by table."""
    section = re.search(rf'<section class="{kind}">.*?</section>', page, re.DOTALL)
    assert section is not None
    row = r'<th scope="row">(.*?)(?: <span.*?)?</th>.*?<td class="score">(.*?)</td>'
    return [
        [(html.unescape(label.replace("<wbr>", "")), score) for label, score in re.findall(row, table)]
        for table in re.findall(r"<table>.*?</table>", section[0])
    ]


def as_row(one) -> tuple[str, str]:
    return one.label, f"{one.score:.1%}"


def render(reply) -> str:
    return render_reply(reply, clip="clip.mp4", network="net")


@pytest.mark.parametrize("name", ["order", "plain"])
def test_answer_is_that_of_predict_in_both_directions(networks, clips, name):
    recogniser = networks[name]
    for clip in clips[:3]:
        reply = answer_clip(recogniser, recogniser.remember(clip), top=4)
        assert list(reply.predictions) == recogniser.predict(clip, top=4)
        assert list(reply.backwards) == recogniser.predict(clip, top=4, order="reverse")
        assert reply.label == reply.predictions[0].label


def test_an_orderless_network_answers_the_same_backwards(networks, clips):
    replies = {}
    for name, recogniser in networks.items():
        replies[name] = answer_clip(recogniser, recogniser.remember(clips[0]))
    plain, order = replies["plain"], replies["order"]
    assert [one.label for one in plain.predictions] == [one.label for one in plain.backwards]
    assert [one.score for one in order.predictions] != pytest.approx([one.score for one in order.backwards])
    assert "Backwards the answer is the same." in render(plain)


def test_backwards_another_answer_is_named(networks, clips):
    reply = answer_clip(networks["plain"], networks["plain"].remember(clips[0]))
    other = replace(reply, backwards=(replace(reply.backwards[0], label="move_down"), *reply.backwards[1:]))
    assert "Backwards the answer is another: <b>move_<wbr>down</b>." in render(other)


def test_saliency_and_frames_are_those_of_explain(networks, clips):
    recogniser = networks["order"]
    reply = answer_clip(recogniser, recogniser.remember(clips[1]))
    view = read_view(recogniser, clips[1])
    assert reply.view.indices == view.indices
    assert torch.equal(reply.view.frames, view.frames)
    label = recogniser.class_names.index(reply.label)
    wanted = compute_saliency(recogniser.model, view.normalize(), [label])
    torch.testing.assert_close(reply.saliency.heat, wanted.heat)
    assert reply.saliency.way == "tube"


def test_page_shows_labels_frames_and_saliency(networks, clips):
    recogniser = networks["order"]
    reply = answer_clip(recogniser, recogniser.remember(clips[1]))
    page = render(reply)
    assert read_rankings(page, "forwards") == [[as_row(one) for one in reply.predictions]]
    assert read_rankings(page, "backwards") == [[as_row(one) for one in reply.backwards]]
    assert read(page, r"<h2>(.*?) <small>") == [reply.predictions[0].label]
    numbers = [str(index + 1) for index in reply.view.indices]
    assert read(page, r'alt="frame (\d+)"') == read(page, r'alt="saliency in frame (\d+)"') == numbers
    pictures = [open_picture(source) for source in re.findall(r'src="data:image/webp;base64,(.*?)"', page)]
    for frame, shown in zip(reply.view.frames, pictures[::2], strict=True):
        assert shown.shape[0] >= 96  # small frames are enlarged
        small = shown.reshape(32, shown.shape[0] // 32, 32, shown.shape[1] // 32, 3).mean(axis=(1, 3))
        assert np.abs(small - frame.permute(1, 2, 0).numpy()).mean() < 12, "lossy, but the same picture"


def open_picture(code: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB"))


def test_large_frames_keep_their_size():
    frame = torch.zeros(3, 200, 300, dtype=torch.uint8)
    assert Image.open(io.BytesIO(encode_picture(frame))).size == (300, 200)


def test_of_many_frames_some_are_shown(clips):
    recogniser = make_recogniser("tsn_test_resnet.r160_in1k")
    recogniser.protocol = replace(recogniser.protocol, num_frames=40)
    page = render(answer_clip(recogniser, recogniser.remember(clips[0])))
    assert len(read(page, r'alt="frame (\d+)"')) == 16
    assert "16 of the 40 frames that were sampled." in page


def test_without_saliency_the_rest_is_shown(networks, clips):
    recogniser = make_recogniser("tsn_test_vit.r160_in1k")
    reply = answer_clip(recogniser, recogniser.remember(clips[0]))
    assert reply.saliency is None
    page = render(reply)
    assert f"No saliency: {html.escape(reply.reason)}." in page
    assert len(read(page, r'alt="frame (\d+)"')) == 4
    assert "saliency in frame" not in page
    assert len(read_rankings(page, "forwards")[0]) == 5


def test_each_task_is_ranked_and_the_leading_one_stands_above(clips):
    recogniser = make_recogniser("mstnet_test_resnet.r160_in1k", space=TASKS)
    reply = answer_clip(recogniser, recogniser.remember(clips[0]), top=2)
    page = render(reply)
    assert read(page, r"<caption>(.*?)</caption>") == ["verb", "noun", "action"] * 2
    by_task = [[as_row(one) for one in reply.predictions if one.task == task] for task in TASKS.tasks]
    assert read_rankings(page, "forwards") == by_task
    assert [len(rows) for rows in by_task] == [2, 2, 2]
    assert read(page, r"<h2>(.*?) <small>") == [reply.label] == [by_task[2][0][0]]


def test_several_classes_may_be_present(clips):
    recogniser = make_recogniser("tsn_test_resnet.r160_in1k", space=SEVERAL)
    scores = recogniser.score(clips[0]).sigmoid()
    reply = answer_clip(
        recogniser, recogniser.remember(clips[0]), top=1, threshold=float(scores.sort()[0][1]) - 1e-4
    )
    assert [one.present for one in reply.predictions] == [True, True, True]
    page = render(reply)
    assert read(page, "<h2>(.*?)</h2>") == [", ".join(one.label for one in reply.predictions)]
    assert page.count('<tr class="present">') == 6
    assert "Backwards the answer is the same." in page
    none = answer_clip(recogniser, recogniser.remember(clips[0]), threshold=float(scores.max()) + 1e-3)
    assert "<h2>no class is present</h2>" in render(none)
    found = replace(reply, backwards=reply.backwards[:1])
    assert f"Backwards it finds: <b>{html.escape(reply.backwards[0].label)}</b>." in render(found)


def test_names_from_outside_are_escaped(clips):
    recogniser = make_recogniser("tsn_test_resnet.r160_in1k", space=SEVERAL)
    reply = answer_clip(recogniser, recogniser.remember(clips[0]))
    page = render_reply(reply, clip="<img src=x onerror=alert(1)>.mp4", network='"><script>')
    assert "&lt;sits&gt;" in page
    assert "<sits>" not in page
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert render_refusal("<b>.mp4: no") == '<p class="refusal" role="alert">&lt;b&gt;.mp4: no</p>'
