"""The head for several tasks against its equations written out, and in every kind of network."""

import pytest
import torch
from torch import nn

from kinemix.engine.optim import classify_parameters
from kinemix.errors import ConfigError
from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
from kinemix.models.factory import create_model
from kinemix.models.multi_task import MultiTaskHead

TASKS = {"verb": 3, "noun": 5, "action": 4}
F = 6


def write_out(weights, features, task_bias):
    """v = Wv f + Wav a and its like, one number at a time."""
    rows = []
    for f in features:
        scores = {}
        for task, count in TASKS.items():
            w, b = weights["classify", task]
            scores[task] = [sum(w[k][j] * f[j] for j in range(F)) + b[k] for k in range(count)]
        for task, count in TASKS.items():
            if task_bias is not None and task != task_bias:
                w, b = weights["bias", task]
                a = scores[task_bias]
                scores[task] = [
                    scores[task][k] + sum(w[k][j] * a[j] for j in range(len(a))) + b[k] for k in range(count)
                ]
        rows.append([score for task in TASKS for score in scores[task]])
    return rows


def name_weights(head):
    biased = [task for task in TASKS if task != head.task_bias] if head.task_bias else []
    layers = {("classify", task): layer for task, layer in zip(TASKS, head.classify, strict=True)}
    layers |= {("bias", task): layer for task, layer in zip(biased, head.bias, strict=True)}
    return layers


@pytest.mark.parametrize("task_bias", ["action", "verb", None])
@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv3d"])
def test_head_equals_its_equations(kind, task_bias):
    torch.manual_seed(0)
    replaced = {"linear": nn.Linear(F, 12), "conv2d": nn.Conv2d(F, 12, 1), "conv3d": nn.Conv3d(F, 12, 1)}[
        kind
    ]
    head = MultiTaskHead(replaced, tasks=TASKS, task_bias=task_bias).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    features = torch.randn(2, F, dtype=torch.float64, requires_grad=True)
    shape = (2, F, *[1] * {"linear": 0, "conv2d": 2, "conv3d": 3}[kind])
    scores = head(features.view(shape)).flatten(1)
    layers = name_weights(head)
    weights = {
        name: (layer.weight.flatten(1).unbind(), layer.bias.unbind()) for name, layer in layers.items()
    }
    wanted = torch.stack([torch.stack(row) for row in write_out(weights, features, task_bias)])
    torch.testing.assert_close(scores, wanted, rtol=1e-12, atol=1e-12)

    weight = torch.randn_like(scores)
    inputs = [features, *head.parameters()]
    ours = torch.autograd.grad((scores * weight).sum(), inputs)
    theirs = torch.autograd.grad((wanted * weight).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_verb_and_noun_reaches_the_action():
    head = MultiTaskHead(nn.Linear(F, 1), tasks=TASKS, task_bias="action")
    head(torch.randn(2, F))[:, :3].sum().backward()
    layers = name_weights(head)
    assert layers["classify", "action"].weight.grad.abs().sum() > 0
    assert layers["classify", "noun"].weight.grad.abs().sum() == 0


def test_initialisation():
    torch.manual_seed(0)
    head = MultiTaskHead(
        nn.Linear(2048, 1), tasks={"verb": 125, "noun": 352, "action": 2513}, task_bias="action"
    )
    for layer in (*head.classify, *head.bias):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=1e-5)
        assert (layer.bias == 0).all()
    features, actions, others = 2048, 2513, 125 + 352
    wanted = features * (others + actions) + others + actions + actions * others + others
    assert sum(p.numel() for p in head.parameters()) == wanted


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tsm_test_resnet.r160_in1k", {}),
        ("gsm_bn_inception", {}),
        ("tsn_torchvision.squeezenet1_1", {}),  # its classifier is a convolution
        ("x3d_s", {"num_frames": 4}),
        ("torchvision.r3d_18", {}),
    ],
)
def test_any_network_takes_it_and_a_checkpoint_gives_it_back(tmp_path, name, options):
    torch.manual_seed(0)
    options = {"num_frames": 2, "input_size": 64, "dropout": 0.2, **options}
    model = create_model(name, num_classes=TASKS, task_bias="action", **options).eval()
    assert (model.num_classes, model.tasks) == (12, TASKS)
    with torch.no_grad():
        for parameter in model.backbone.get_submodule(model.classifier).parameters():
            nn.init.normal_(parameter, std=0.1)
    clips = torch.randn(2, options["num_frames"], 3, 64, 64)
    logits = model(clips)
    assert logits.shape == (2, 12)
    save_checkpoint(tmp_path, model=model, metadata={})
    again, _ = load_checkpoint(tmp_path)
    assert again.description == model.description
    assert list(again.tasks) == list(TASKS)
    torch.testing.assert_close(again(clips), logits)
    one = create_model(name, num_classes=12, **options)
    features = model.forward_features(clips)
    assert features.shape == one.forward_features(clips).shape


def test_the_optimizer_takes_all_of_it_for_a_classifier():
    model = create_model(
        "tsn_test_resnet.r160_in1k", num_classes=TASKS, task_bias="action", num_frames=2, input_size=32
    )
    classifier = f"backbone.{model.classifier}"
    kinds = {path: kind for path, kind, _ in classify_parameters(model, classifier=classifier)}
    inside = {kind for path, kind in kinds.items() if path.startswith(f"{classifier}.")}
    assert inside == {"classifier weight", "classifier bias"}
    assert sum(kind == "classifier weight" for kind in kinds.values()) == 5


def test_frames_are_averaged_over_scores():
    """Everything is linear, so the mean over frames may be taken of the scores of all tasks."""
    torch.manual_seed(0)
    model = create_model(
        "tsn_test_resnet.r160_in1k", num_classes=TASKS, task_bias="action", num_frames=3, input_size=32
    ).eval()
    clips = torch.randn(2, 3, 3, 32, 32)
    head = model.backbone.get_submodule(model.classifier)
    wanted = head(model.forward_features(clips).mean(dim=1))
    torch.testing.assert_close(model(clips), wanted)


def test_single_task_networks_are_as_before():
    torch.manual_seed(0)
    model = create_model("tsn_test_resnet.r160_in1k", num_classes=12, input_size=32)
    assert model.tasks == {}
    assert model.description["num_classes"] == 12
    assert "task_bias" not in model.description


@pytest.mark.parametrize(
    ("num_classes", "task_bias", "message"),
    [
        (TASKS, "verbs", "no such task: did you mean 'verb'"),
        (12, "verb", "one task only"),
        ({"verb": 3, "noun": 0}, None, "'noun' is 0"),
        ({}, None, "no task"),
    ],
)
def test_what_cannot_be_is_refused(num_classes, task_bias, message):
    with pytest.raises(ConfigError, match=message):
        create_model("tsn_test_resnet.r160_in1k", num_classes=num_classes, task_bias=task_bias)


def test_a_network_with_two_classifiers_is_refused():
    with pytest.raises(ConfigError, match="2 classifiers"):
        create_model("tsn_levit_128s", num_classes=TASKS, num_frames=2)


def test_a_classifier_that_sees_its_neighbours_is_refused():
    with pytest.raises(ConfigError, match="one place at a time"):
        MultiTaskHead(nn.Conv2d(F, 12, 3), tasks=TASKS, task_bias=None)
