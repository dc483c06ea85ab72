"""The same gradients and the same running statistics, from less memory."""

import copy

import pytest
import torch

from kinemix.errors import ConfigError
from kinemix.models.factory import create_model
from kinemix.models.recompute import recompute_blocks_

THIN = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4, "drop_path_rate": 0.3}
NETWORKS = {
    "tsm_resnet26": {"backbone_options": THIN},
    "gsm_bn_inception": {},
    "x3d_s": {},
}


def learn(model, clip):
    """Two steps of forward and backward; bytes of activations that the graph of the last one holds."""
    kept = []

    def pack(tensor):
        kept.append(0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes)
        return tensor

    model.train()
    torch.manual_seed(0)
    for _ in range(2):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(clip).square().mean()
        loss.backward()
    return sum(kept)


SLOW = pytest.param("mtnet_s", {}, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "options"), [*NETWORKS.items(), SLOW])
def test_same_result_from_less_memory(name, options):
    torch.manual_seed(1)
    plain = create_model(name, num_classes=3, num_frames=2, input_size=64, dropout=0.5, **options)
    model = copy.deepcopy(plain)
    recompute_blocks_(model)
    clip = torch.randn(2, 2, 3, 64, 64)
    more, less = learn(plain, clip), learn(model, clip)
    assert less < more / 2
    assert model.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    gradients = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gradients[name].grad, parameter.grad, msg=name)
    plain.eval(), model.eval()
    with torch.inference_mode():
        assert torch.equal(model(clip), plain(clip))


def test_a_copy_has_its_own_weights():
    model = create_model("tsm_test_resnet.r160_in1k", num_classes=3, num_frames=2, input_size=32).eval()
    recompute_blocks_(model)
    twin = copy.deepcopy(model)
    clip = torch.randn(1, 2, 3, 32, 32)
    before = model(clip)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twin(clip), before)
    assert not torch.equal(model(clip), before)


def test_fixed_statistics_stay_fixed():
    """Batch normalisation that rests while the others learn is not woken by the second run."""
    model = create_model("tsn_resnet18", num_classes=3, num_frames=2, input_size=32)
    recompute_blocks_(model)
    model.train()
    rests = model.backbone.layer1[0].bn1.eval()
    model(torch.randn(1, 2, 3, 32, 32)).sum().backward()
    assert rests.num_batches_tracked == 0
    assert model.backbone.layer1[0].bn2.num_batches_tracked == 1


def test_a_network_without_blocks():
    with pytest.raises(ConfigError, match=r"machine\.recompute: tsn_vit_tiny_patch16_224 has no blocks"):
        recompute_blocks_(create_model("tsn_vit_tiny_patch16_224", num_classes=3))
