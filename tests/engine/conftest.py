"""A small dataset, and the options of a small run on it."""

import pytest
from runs import make_config

from kinemix.data.catalog.motion import make_motion


@pytest.fixture(scope="session")
def motion(tmp_path_factory):
    """Twelve classes, two training videos and one held-out video each."""
    folder = tmp_path_factory.mktemp("motion")
    return make_motion(folder, train_per_class=2, val_per_class=1, num_frames=8, size=32, workers=1)


@pytest.fixture
def config(motion, tmp_path):
    return make_config(motion, tmp_path)
