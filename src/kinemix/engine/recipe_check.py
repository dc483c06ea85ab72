"""A recipe tried out: two steps on a miniature of its dataset, with its own network at a reduced size.

Everything that a training touches is there: the reading of the dataset's official files, sampling, augmentation,
the whole network with its temporal modules, groups of parameters, schedule, checkpoint.
"""

from dataclasses import replace
from pathlib import Path

from kinemix.config import TrainConfig
from kinemix.data.miniature import make_gesture_list, make_miniature
from kinemix.engine.logbook import read_log
from kinemix.engine.recipes import Recipe, read_recipe_config
from kinemix.engine.train import train

NUM_STEPS = 2
MOST_FRAMES, SIZE = 8, 80


def check_recipe(recipe: Recipe, folder: Path) -> list[float]:
    """Train two steps.

    Args:
        recipe: which one.
        folder: empty; the miniature dataset and the run go there.

    Returns:
        The losses of the steps.

    Raises:
        KinemixError: an option, the network or the data cannot be.
    """
    if recipe.dataset:
        root, num_videos = make_miniature(recipe.dataset, folder / "data")
        source = f"{recipe.dataset}:{root}"
    else:
        path, num_videos = make_gesture_list(folder / "data")
        source = str(path)
    config = shrink_config(read_recipe_config(recipe.name), num_videos=num_videos)
    config = replace(config, data=replace(config.data, source=source), out=str(folder / "run"))
    return [record["loss"] for record in read_log(train(config, quiet=True)) if record["kind"] == "train"]


def shrink_config(config: TrainConfig, *, num_videos: int) -> TrainConfig:
    """The same training in two steps on the processor: fewer and smaller frames, nothing downloaded."""
    frames = min(config.protocol.num_frames, MOST_FRAMES)
    side = SIZE if config.size is None or isinstance(config.size, int) else config.size
    return replace(
        config,
        pretrained=False,
        init_from=None,
        size=side,
        validate_every=None,  # after two steps the statistics of normalisation are nobody's
        protocol=replace(config.protocol, num_frames=frames),
        data=replace(config.data, workers=0, cache=None, split=None),  # the miniature has one split
        optim=replace(
            config.optim,
            epochs=NUM_STEPS,  # of one step each, which takes all videos
            batch_size=num_videos,
            accumulate=1,
            lr=min(config.optim.lr, 0.01),
        ),
        machine=replace(config.machine, accelerator="cpu", devices=1, nodes=1, precision="32", compile=False),
    )
