"""Ensembles equal NumPy's mean; what does not match is refused and counted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from kinemix.config import Protocol
from kinemix.errors import ConfigError, DataError
from kinemix.evaluate.ensemble import (
    align_scores,
    average_scores,
    find_best,
    leave_out_tested,
    search_weights,
    split_tasks,
    take_samples,
)
from kinemix.evaluate.scores import Scores, join_tasks, read_scores, write_scores
from kinemix.label_space import LabelSpace

CLASSES = ("close", "open", "push")


def make_scores(seed, *, count=40, help_=1.0, classes=CLASSES, prefix="video"):
    labels = np.random.default_rng(0).integers(0, len(classes), count)
    logits = np.random.default_rng(seed).normal(size=(count, len(classes)))
    logits[np.arange(count), labels] += help_
    return Scores(
        ids=tuple(f"{prefix}/{i}.mp4" for i in range(count)),
        indices=np.arange(count),
        logits=logits.astype(np.float32),
        labels=labels,
        space=LabelSpace(class_names=classes),
        protocol=Protocol(num_frames=8 * seed),
        model={"name": f"model {seed}"},
    )


NAMES = ["a", "b", "c"]


@pytest.fixture
def members():
    return [make_scores(seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize("weights", [None, (1, 1, 1), (2, 1, 1), (0.5, 0, 3)])
def test_ensemble_of_logits_is_the_mean(members, weights):
    stack = np.stack([m.logits for m in members]).astype(np.float64)
    wanted = np.average(stack, axis=0, weights=weights)
    np.testing.assert_allclose(average_scores(members, weights=weights).logits, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("weights", [None, (2, 1, 1)])
def test_ensemble_of_probabilities_is_their_mean(members, weights):
    stack = np.stack([softmax(m.logits.astype(np.float64), axis=1) for m in members])
    wanted = np.average(stack, axis=0, weights=weights)
    found = average_scores(members, weights=weights, average="probabilities")
    np.testing.assert_allclose(np.exp(found.logits), wanted, rtol=1e-5)
    # A member that holds probabilities already is taken as it is.
    given = replace(members[0], logits=stack[0].astype(np.float32))
    again = average_scores([given, *members[1:]], weights=weights, average="probabilities")
    np.testing.assert_allclose(again.logits, found.logits, rtol=1e-4, atol=1e-5)


def test_ensemble_says_what_it_is_made_of(members, tmp_path):
    ensemble = average_scores(members, weights=(2, 1, 1))
    write_scores(ensemble, tmp_path / "e.parquet")
    back = read_scores(tmp_path / "e.parquet")
    assert np.array_equal(back.logits, ensemble.logits)
    assert [m["weight"] for m in back.model["members"]] == [2, 1, 1]
    assert [m["model"]["name"] for m in back.model["members"]] == ["model 1", "model 2", "model 3"]
    assert back.model["members"][1]["views"].startswith("16 frames x 1 clip")


@pytest.mark.parametrize(
    ("weights", "word"), [((1, 2), "2 weights for 3"), ((1, -1, 1), "0 or more"), ((0, 0, 0), "above 0")]
)
def test_weights_that_do_not_fit(members, weights, word):
    with pytest.raises(ConfigError, match=word):
        average_scores(members, weights=weights)


# ------------------------------------------------------------------------------------------------ the same samples


def test_rows_are_matched_by_name(members):
    shuffled = take_samples(members[1], np.random.default_rng(0).permutation(40).tolist())
    aligned = align_scores([members[0], shuffled, members[2]], NAMES)
    assert aligned.notices == ()
    for found, wanted in zip(aligned.members, members, strict=True):
        assert found.ids == members[0].ids
        assert np.array_equal(found.logits, wanted.logits)
        assert np.array_equal(found.labels, members[0].labels)


def test_missing_and_extra_samples_are_counted_and_refused(members):
    short = take_samples(members[1], range(35))
    with pytest.raises(DataError, match=r"b lacks 5 of the 40 samples of a, the first 'video/35.mp4'"):
        align_scores([members[0], short], NAMES[:2])
    with pytest.raises(DataError, match="b lacks 5 of the 40 samples of a"):
        align_scores([short, members[0]], ["b", "a"])
    aligned = align_scores([short, members[0]], ["b", "a"], allow_missing=True)
    assert aligned.notices == ("a: 5 of 40 samples are not in all files: left out",)
    assert len(aligned.members[0].ids) == 35


def test_rows_by_stem_and_by_order(members):
    elsewhere = replace(members[1], ids=tuple(f"/data/{i}.avi" for i in range(40)))
    with pytest.raises(DataError, match=r"lacks 40 .*--match"):
        align_scores([members[0], elsewhere], NAMES[:2])
    for match in ("stem", "order"):
        found = align_scores([members[0], elsewhere], NAMES[:2], match=match).members[1]
        assert np.array_equal(found.logits, members[1].logits)
    with pytest.raises(DataError, match="lacks 1 of the 40"):
        align_scores(
            [members[0], take_samples(elsewhere, range(39))], NAMES[:2], match="order", allow_missing=True
        )


def test_nothing_in_common_is_refused_even_if_missing_is_allowed(members):
    with pytest.raises(DataError, match="no sample is in all"):
        align_scores([members[0], make_scores(2, prefix="other")], NAMES[:2], allow_missing=True)


def test_nameless_samples_match_by_order_alone(members):
    nameless = replace(members[1], ids=tuple(f"#{i}" for i in range(40)))
    with pytest.raises(DataError, match=r"b: its samples have no names: .*--match order"):
        align_scores([members[0], nameless], NAMES[:2])
    assert align_scores([members[0], nameless], NAMES[:2], match="order").members[1].ids == members[0].ids


def test_a_sample_twice_is_refused(members):
    twice = take_samples(members[0], [0, 1, 1])
    with pytest.raises(DataError, match=r"'video/1.mp4' is there twice"):
        align_scores([twice, twice], NAMES[:2])


def test_labels_that_disagree_are_refused(members):
    wrong = replace(members[1], labels=(members[1].labels + 1) % 3)
    with pytest.raises(DataError, match="disagree about 40 labels"):
        align_scores([members[0], wrong], NAMES[:2])


# ------------------------------------------------------------------------------------------------ the same classes


def test_classes_are_matched_by_name(members):
    order = [2, 0, 1]
    other = replace(
        members[1],
        space=LabelSpace(class_names=tuple(CLASSES[k] for k in order)),
        logits=members[1].logits[:, order],
        labels=np.array([order.index(k) for k in members[1].labels]),
        view_logits=members[1].logits[:, None, order],
    )
    found = align_scores([members[0], other], NAMES[:2]).members[1]
    assert found.class_names == CLASSES
    assert np.array_equal(found.logits, members[1].logits)
    assert np.array_equal(found.view_logits[:, 0], members[1].logits)


def test_other_classes_are_refused(members):
    other = replace(members[1], space=LabelSpace(class_names=("close", "opens", "push")))
    with pytest.raises(DataError, match=r"no class 'open' \(1 of a's"):
        align_scores([members[0], other], NAMES[:2])
    with pytest.raises(DataError, match="b has 2 classes, a has 3"):
        align_scores([members[0], make_scores(2, classes=("x", "y"))], NAMES[:2])


def test_nameless_classes_are_taken_in_order_and_said(members):
    other = replace(members[1], space=LabelSpace(class_names=("0", "1", "2")))
    aligned = align_scores([members[0], other], NAMES[:2])
    assert "does not name its classes" in aligned.notices[0]
    assert aligned.members[1].class_names == CLASSES


# ------------------------------------------------------------------------------------------------ weights


def test_search_finds_the_good_members():
    good, noise = make_scores(1, count=400, help_=2), make_scores(2, count=400, help_=0)
    noise = replace(noise, logits=noise.logits * 5)
    members = [noise, good]
    weights = search_weights(members)
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > 0.8
    found, equal = (average_scores(members, weights=w).metrics().top1 for w in (weights, None))
    assert found > equal + 0.1
    assert find_best(members) == 1


def test_search_is_never_worse_than_equal_weights_on_its_samples():
    for seed in range(5):
        members = [make_scores(10 * seed + k, count=60) for k in (1, 2, 3)]
        found = average_scores(members, weights=search_weights(members)).metrics().top1
        assert found >= average_scores(members).metrics().top1


def test_tested_samples_choose_no_weight(members):
    aligned = align_scores(members, NAMES).members
    tested = [take_samples(m, range(10)) for m in aligned]
    left, count = leave_out_tested(aligned, tested)
    assert count == 10
    assert left[0].ids == aligned[0].ids[10:]
    with pytest.raises(DataError, match="every sample of --search_on is tested too"):
        leave_out_tested(tested, aligned)
    moved = [replace(m, ids=tuple(name.replace("video/", "/x/") for name in m.ids)) for m in tested]
    assert leave_out_tested(aligned, moved)[1] == 0
    assert leave_out_tested(aligned, moved, match="stem")[1] == 10
    nameless = [replace(m, ids=tuple(f"#{i}" for i in range(10))) for m in tested]
    with pytest.raises(DataError, match="another split"):
        leave_out_tested(nameless, tested)


# ---------------------------------------------------------------------------------------------------- tasks


def make_tasks(seed):
    parts = {"verb": make_scores(seed), "noun": make_scores(seed + 10, help_=3.0)}
    return join_tasks(parts)


def test_each_task_is_fused_by_itself():
    members = [make_tasks(0), make_tasks(1)]
    tasks = split_tasks(members, ["a", "b"])
    assert list(tasks) == ["verb", "noun"]
    fused = {task: average_scores(part, weights=(3, 1)) for task, part in tasks.items()}
    together = join_tasks(fused)
    np.testing.assert_allclose(
        together.logits, (3 * members[0].logits + members[1].logits) / 4, rtol=1e-5, atol=1e-6
    )
    assert together.space == members[0].space
    assert together.metrics().by_task["noun"].top1 == fused["noun"].metrics().top1


def test_one_task_of_several_joins_a_network_that_knows_it_alone():
    both, alone = make_tasks(0), make_scores(11, help_=3.0)
    (task, members), *others = split_tasks([both, alone], ["a", "b"], task="noun").items()
    assert (task, others) == ("noun", [])
    assert members[0].logits.shape == alone.logits.shape
    assert members[1] is alone
    with pytest.raises(DataError, match="b answers one question, a answers verb, noun: --task NAME"):
        split_tasks([both, alone], ["a", "b"])
    with pytest.raises(DataError, match="have no task 'nouns': did you mean 'noun'"):
        split_tasks([both, alone], ["a", "b"], task="nouns")
    with pytest.raises(DataError, match="have no task 'noun': they answer one question only"):
        split_tasks([alone], ["b"], task="noun")


def test_any_number_of_labels_is_refused():
    scores = make_scores(0)
    several = replace(
        scores,
        space=LabelSpace(class_names=CLASSES, multilabel=True),
        labels=np.eye(len(CLASSES), dtype=np.int64)[scores.labels],
    )
    with pytest.raises(DataError, match="any number of labels a video: there is no accuracy to compare"):
        split_tasks([scores, several], ["a", "b"])
