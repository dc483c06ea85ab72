"""What tests of runs share: the network that they train, and a look at what a run has learned."""

from pathlib import Path

import torch
from safetensors.torch import load_file

MODEL = "tsm_test_resnet.r160_in1k"


def read_weights(run, name="last"):
    (path,) = (Path(run) / name).glob("*.safetensors")
    return load_file(path)


def assert_same_weights(run, other, name="last"):
    ours, theirs = read_weights(run, name), read_weights(other, name)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key
