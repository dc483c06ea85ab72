"""Whether saliency follows what moves: the share of it that lies in the moving objects' boxes, on ``motion`` clips.

    python benchmarks/saliency.py MOTION RUN [RUN ...]

MOTION is a folder of ``kinemix motion``, RUN a run that was trained on it. Chance is the share of the picture that
the boxes cover: what heat spread evenly would have.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import kinemix
from kinemix.data.catalog.motion import CLASSES, draw_boxes, read_boxes
from kinemix.data.reader import open_video
from kinemix.engine.progress import CountBar
from kinemix.explain import compute_saliency, measure_focus, read_view


def measure_run(folder: Path, run: str) -> dict[str, np.ndarray]:
    """For each class four shares: by chance, of the tube, of what of it is above its mean, and of right answers."""
    trained = kinemix.load(run)
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    clips = {path: boxes for path, boxes in read_boxes(folder).items() if path.startswith("val/")}
    with CountBar(run, total=len(clips)) as bar:
        for path, boxes in clips.items():
            with open_video(folder / path) as reader:
                size = reader.read([0]).shape[-1]
            view = read_view(trained, folder / path)
            inside = read_view(trained, draw_boxes(boxes, size)).frames[:, 0] > 127
            name = Path(path).parent.name
            label = trained.class_names.index(name)
            clip = view.normalize().to(trained.device)
            heat = compute_saliency(trained.model, clip, [label], way="tube").heat[0].cpu()
            peaks = (heat - heat.mean()).clamp_min(0)
            right = float(int(trained.model(clip).argmax()) == label)
            focus = (measure_focus(heat, inside), measure_focus(peaks, inside))
            rows[name].append((float(inside.float().mean()), *focus, right))
            bar.advance(1)
    return {name: np.mean(rows[name], axis=0) for name in CLASSES}


def main(words: list[str]) -> None:
    """Print a table a run."""
    folder, *runs = words
    console = Console(width=100)
    for run in runs:
        found = measure_run(Path(folder), run)
        table = Table("class", "chance", "tube", "above its mean", "right answers", title=run)
        moving = [figures for name, figures in found.items() if name.startswith("move_")]
        means = {"move_*": np.mean(moving, axis=0), "all": np.mean(list(found.values()), axis=0)}
        for name, figures in {**found, **means}.items():
            table.add_row(name, *(f"{100 * figure:.1f} %" for figure in figures))
        console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
