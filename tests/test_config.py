"""Configs survive the way to YAML and JSON and back, and name what they do not know."""

import json

import pytest
import yaml

from kinemix.config import (
    AugmentConfig,
    DataConfig,
    InputSpec,
    MachineConfig,
    OptimConfig,
    Protocol,
    TrainConfig,
    from_dict,
    to_dict,
)
from kinemix.errors import ConfigError

CONFIG = TrainConfig(
    data=DataConfig(source="videos", folds=4, fold=2, exclude_labels=("a", "b"), labels_start_at=1),
    model="mixtconv_resnet18",
    model_options={"kernel_sizes": [1, 3], "placement": "inner"},
    size=(96, 128),
    color="gray",
    protocol=Protocol(num_frames=4, num_crops=3, input=InputSpec(size=(96, 128), mean=(0.5,), std=(0.25,))),
    augment=AugmentConfig(scales=(1.0, 0.8), flip_labels={"left": "right"}),
    optim=OptimConfig(milestones=(2, 3.5), clip_grad_norm=None),
    machine=MachineConfig(threads=1),
)


@pytest.mark.parametrize("carry", [yaml.safe_dump, json.dumps], ids=["yaml", "json"])
def test_round_trip_through_a_file(carry):
    text = carry(to_dict(CONFIG))
    assert from_dict(TrainConfig, yaml.safe_load(text)) == CONFIG


def test_missing_keys_take_their_defaults():
    assert from_dict(TrainConfig, {"optim": {"lr": 0.5}}) == TrainConfig(optim=OptimConfig(lr=0.5))


def test_unknown_key_names_path_and_nearest():
    with pytest.raises(ConfigError, match=r"'optim\.lrr'.*'lr'"):
        from_dict(TrainConfig, {"optim": {"lrr": 0.5}})
