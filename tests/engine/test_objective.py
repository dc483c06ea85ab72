"""The loss of one task, of several and of several labels, against their equations written out sample by sample."""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from kinemix.engine.objective import Objective, weigh_classes
from kinemix.errors import ConfigError
from kinemix.label_space import LabelSpace, label_space_from_dict, label_space_to_dict

ONE = LabelSpace(class_names=("a", "b", "c"))
TASKS = LabelSpace.of_tasks({"verb": ("cut", "wash"), "noun": ("pan", "cup", "egg"), "action": ("x", "y")})
SEVERAL = LabelSpace(class_names=("a", "b", "c", "d"), multilabel=True)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def negative_log_softmax(row, label):
    return math.log(sum(math.exp(value) for value in row)) - row[label]


def smooth(row, label, share):
    """The cross entropy with a share of the target spread over all classes."""
    spread = sum(negative_log_softmax(row, k) for k in range(len(row))) / len(row)
    return (1 - share) * negative_log_softmax(row, label) + share * spread


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_one_task(generator, share):
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    loss = Objective(space=ONE, label_smoothing=share).loss(logits, labels)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    assert float(loss.total) == pytest.approx(sum(smooth(row, k, share) for row, k in rows) / 5, rel=1e-12)
    assert loss.values() == {"loss": float(loss.total)}


@pytest.mark.parametrize("weights", [{}, {"verb": 3.0, "action": 0.5}])
def test_several_tasks_are_the_weighted_mean_of_their_cross_entropies(generator, weights):
    logits = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[0, 2, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    loss = Objective(space=TASKS, label_smoothing=0.1, task_weights=weights).loss(logits, labels)
    wanted = {}
    for number, (task, start, stop) in enumerate((("verb", 0, 2), ("noun", 2, 5), ("action", 5, 7))):
        terms = [smooth(logits[i, start:stop].tolist(), int(labels[i, number]), 0.1) for i in range(4)]
        wanted[task] = sum(terms) / 4
    assert {task: float(one) for task, one in loss.by_task.items()} == pytest.approx(wanted, rel=1e-12)
    weight = {"verb": 1.0, "noun": 1.0, "action": 1.0} | weights
    mean = sum(weight[task] * wanted[task] for task in wanted) / sum(weight.values())
    assert float(loss.total) == pytest.approx(mean, rel=1e-12)
    assert list(loss.values()) == ["loss", "verb_loss", "noun_loss", "action_loss"]


def test_a_task_without_weight_gets_no_gradient(generator):
    logits = torch.randn(4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 2, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    Objective(space=TASKS, task_weights={"noun": 0.0}).loss(logits, labels).total.backward()
    assert (logits.grad[:, 2:5] == 0).all()
    assert (logits.grad[:, [0, 1, 5, 6]] != 0).all()


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_several_labels(generator, share):
    logits = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    loss = Objective(space=SEVERAL, label_smoothing=share).loss(logits, labels)
    terms = []
    for row, targets in zip(logits.tolist(), labels.tolist(), strict=True):
        for value, target in zip(row, targets, strict=True):
            yes = 1 / (1 + math.exp(-value))
            wanted = target * (1 - share) + share / 2
            terms.append(-wanted * math.log(yes) - (1 - wanted) * math.log(1 - yes))
    assert float(loss.total) == pytest.approx(sum(terms) / 12, rel=1e-12)


@pytest.mark.parametrize("space", [ONE, TASKS], ids=["one", "tasks"])
def test_soft_targets_of_one_hot_rows_are_the_labels(generator, space):
    logits = torch.randn(2, len(space.class_names), generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1, 2, 0], [0, 1, 1]]) if space.tasks else torch.tensor([2, 0])
    hot = torch.zeros_like(logits)
    starts = [place.start for place in space.places.values()] or [0]
    for i in range(2):
        for start, label in zip(starts, labels.view(2, -1)[i].tolist(), strict=True):
            hot[i, start + label] = 1
    objective = Objective(space=space, label_smoothing=0.1)
    assert objective.loss(logits, hot).values() == pytest.approx(objective.loss(logits, labels).values())
    assert objective.count_right(logits, hot) == objective.count_right(logits, labels)
    mixed = 0.3 * hot + 0.7 * hot.flip(0)
    parts = [objective.loss(logits, one).values()["loss"] for one in (hot, hot.flip(0))]
    assert objective.loss(logits, mixed).values()["loss"] == pytest.approx(0.3 * parts[0] + 0.7 * parts[1])


def test_what_is_counted_as_right():
    logits = torch.tensor([[1.0, 0, 0, 5, 0, 0, 2], [1.0, 0, 9, 5, 0, 0, 2]])
    labels = torch.tensor([[0, 1, 0], [1, 0, 1]])
    assert Objective(space=TASKS).count_right(logits, labels) == {
        "verb top-1": 1,
        "noun top-1": 2,
        "action top-1": 1,
    }
    assert Objective(space=ONE).count_right(logits[:, :3], torch.tensor([0, 0])) == {"top-1": 1}
    logits = torch.tensor([[-1.0, 2, -3, 4], [-1.0, -2, -3, -4], [1.0, 1, -1, 1]])
    labels = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    assert Objective(space=SEVERAL).count_right(logits, labels) == {"exact match": 2}
    assert Objective(space=SEVERAL).count_right(logits, 0.9 * labels) == {"exact match": 2}


def test_a_validation_has_no_smoothing(generator):
    logits, labels = torch.randn(4, 3, generator=generator), torch.tensor([0, 1, 2, 0])
    smoothed = Objective(space=ONE, label_smoothing=0.3)
    assert smoothed.plain().loss(logits, labels).total == Objective(space=ONE).loss(logits, labels).total
    assert smoothed.loss(logits, labels).total != smoothed.plain().loss(logits, labels).total


@pytest.mark.parametrize(
    ("space", "weights", "message"),
    [
        (TASKS, {"verbs": 1.0}, "no task 'verbs': did you mean 'verb'"),
        (TASKS, {"verb": -1.0}, "verb has -1.0: it must be 0 or more"),
        (TASKS, {"verb": 0.0, "noun": 0.0, "action": 0.0}, "nothing to learn"),
        (ONE, {"verb": 1.0}, "one task only"),
    ],
)
def test_wrong_weights_are_refused(space, weights, message):
    with pytest.raises(ConfigError, match=message):
        Objective(space=space, task_weights=weights)


@pytest.mark.parametrize("space", [ONE, TASKS, SEVERAL], ids=["one", "tasks", "several"])
def test_a_label_space_is_written_and_read_back(space):
    assert label_space_from_dict(list(space.class_names), label_space_to_dict(space)) == space
    assert space.leading == ("action" if space.tasks else None)


@pytest.mark.parametrize("soft", [False, True], ids=["indices", "one-hot targets"])
def test_class_weights_weigh_the_mean_too(generator, soft):
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    weights = (0.5, 2.0, 3.0)
    targets = torch.nn.functional.one_hot(labels, 3).double() if soft else labels
    loss = Objective(space=ONE, class_weights=weights).loss(logits, targets).total
    terms = [negative_log_softmax(row, k) for row, k in zip(logits.tolist(), labels.tolist(), strict=True)]
    shares = [weights[k] for k in labels.tolist()]
    wanted = sum(s * term for s, term in zip(shares, terms, strict=True)) / sum(shares)
    assert float(loss) == pytest.approx(wanted, rel=1e-12)
    smoothed = [
        Objective(space=ONE, class_weights=weights, label_smoothing=0.2).loss(logits, one).total
        for one in (labels, torch.nn.functional.one_hot(labels, 3).double())
    ]
    torch.testing.assert_close(*smoothed)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_samples_that_weigh_nothing_teach_nothing(generator, soft, smoothing):
    """The mean over no weight is 0 / 0, which would end the training."""
    space = LabelSpace(class_names=("a", "b", "c"))
    objective = Objective(space=space, class_weights=(0.0, 1.0, 2.0), label_smoothing=smoothing)
    logits = torch.randn(4, 3, generator=generator, requires_grad=True)
    labels = torch.zeros(4, dtype=torch.long)
    loss = objective.loss(logits, F.one_hot(labels, 3).float() if soft else labels).total
    loss.backward()
    if smoothing:  # a part of it is of the other classes
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
    else:
        assert loss == 0
        assert not logits.grad.any()


def test_balanced_weights_are_scikit_learns():
    labels = np.array([0] * 7 + [1] * 2 + [2] * 11)
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert weigh_classes("balanced", counts=[7, 2, 11], space=ONE) == pytest.approx(tuple(wanted))
    of_tasks = weigh_classes("balanced", counts=[4, 4, 7, 0, 1, 6, 2], space=TASKS)
    assert of_tasks == pytest.approx((1, 1, 4 / 7, 1, 4, 4 / 6, 2))
    assert weigh_classes("none", counts=[7, 2, 11], space=ONE) == ()


def test_weights_by_name():
    assert weigh_classes({"b": 3.0}, counts=[1, 1, 1], space=ONE) == (1, 3, 1)
    with pytest.raises(ConfigError, match=r"optim\.class_weights: no class 'aa': did you mean 'a'"):
        weigh_classes({"aa": 3.0}, counts=[1, 1, 1], space=ONE)
    with pytest.raises(ConfigError, match="'a' has -1"):
        weigh_classes({"a": -1}, counts=[1, 1, 1], space=ONE)


@pytest.mark.parametrize("space", [ONE, TASKS, SEVERAL], ids=["one task", "tasks", "several labels"])
@pytest.mark.parametrize("weighted", [False, True])
def test_shares_of_processes_add_up_to_the_loss_of_all(generator, space, weighted):
    """Seven samples as three processes have them, of which one has but one."""
    count = len(space.class_names)
    logits = torch.randn(7, count, generator=generator, dtype=torch.float64)
    if space.multilabel:
        labels = torch.randint(2, (7, count), generator=generator)
    elif space.tasks:
        labels = torch.stack(
            [torch.randint(n, (7,), generator=generator) for n in space.tasks.values()], dim=1
        )
    else:
        labels = torch.randint(count, (7,), generator=generator)
    objective = Objective(
        space=space,
        label_smoothing=0.1,
        task_weights={"noun": 2.5} if space.tasks else {},
        class_weights=tuple(0.5 + k for k in range(count)) if weighted else (),
    )
    whole = objective.loss(logits, labels).values()
    places = [slice(0, 4), slice(4, 5), slice(5, 7)]
    weights = torch.tensor([objective.weigh(labels[place]) for place in places], dtype=torch.float64)
    assert weights.shape == (3, objective.num_losses)
    shares = (3 * weights / weights.sum(dim=0)).tolist()
    parts = [
        objective.share(objective.loss(logits[place], labels[place]), share).values()
        for place, share in zip(places, shares, strict=True)
    ]
    assert {name: sum(part[name] for part in parts) / 3 for name in whole} == pytest.approx(whole, rel=1e-12)
