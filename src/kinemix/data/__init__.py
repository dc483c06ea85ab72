"""Video in: from what the user names to batches of network input.

::

    sources      folder or list file -> samples, labels, splits     catalog/ annotations splits
    reader       video file or folder of frames -> frames by index  frame_cache keeps them
    sampling     how many frames there are -> which are taken
    transforms   frames -> augmented network input (training)       mirror; mixing, of a batch
    miniature    datasets of three videos, to try things out
    views        video -> all clips and crops (test, prediction)
    dataset      one sample; order: who comes when; loader: batches   multigrid shapes them
"""

from kinemix.data.annotations import Annotations, Sample
from kinemix.data.dataset import Batch, Unreadable, VideoDataset, VideoOpener
from kinemix.data.loader import TestLoader, TrainLoader, build_test_loader, build_train_loader
from kinemix.data.reader import VideoReader, open_video
from kinemix.data.sources import Splits, open_annotations, open_splits
from kinemix.data.views import read_views

__all__ = [
    "Annotations",
    "Batch",
    "Sample",
    "Splits",
    "TestLoader",
    "TrainLoader",
    "Unreadable",
    "VideoDataset",
    "VideoOpener",
    "VideoReader",
    "build_test_loader",
    "build_train_loader",
    "open_annotations",
    "open_splits",
    "open_video",
    "read_views",
]
