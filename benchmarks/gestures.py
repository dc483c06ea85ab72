"""Cross-validation on a small labelled set of gestures: who needs order, and who has it.

Trains every model of ``--models`` on every fold and seed by the ordinary command line (``kinemix train`` with
``recipes/small_gestures.yaml``), tests the last checkpoint forwards and with the frames reversed, and prints
accuracy and the share of reversed direction clips that get the opposite label: over all folds' samples, with
the deviation over seeds. Runs that are finished are not repeated. Options it does not know go to ``kinemix
train``.

    python benchmarks/gestures.py path/to/labels.csv --exclude unclassified
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from kinemix.engine.measure import measure_run

RECIPE = Path(__file__).parents[1] / "recipes" / "small_gestures.yaml"
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
MODELS = ("tsn_resnet18", "mstnet_resnet18")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, help="list file with the columns video, label, session")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--exclude", nargs="*", default=[], help="labels to leave out")
    parser.add_argument("--out", type=Path, default=Path("runs/gestures"))
    arguments, arguments.more = parser.parse_known_args()
    for model in arguments.models:
        seeds = [
            [_run(arguments, model, seed, fold) for fold in range(arguments.folds)]
            for seed in arguments.seeds
        ]
        _report(model, seeds)


def _run(arguments: argparse.Namespace, model: str, seed: int, fold: int) -> dict[str, float]:
    """One training and its two tests."""
    out = arguments.out / f"{model}-seed{seed}-fold{fold}"
    result = out / "gestures.json"
    if result.is_file():
        return dict(json.loads(result.read_text()))
    command = [
        sys.executable, "-m", "kinemix", "train", str(arguments.labels), "--config", str(RECIPE),
        "--model", model, "--data.fold", str(fold), "--data.folds", str(arguments.folds), "--seed", str(seed),
        "--out", str(out), "--augment.flip", "on",
        "--augment.flip_labels", json.dumps({"left": "right", "right": "left", "up": "up", "down": "down"}),
        "--augment.reverse_labels", json.dumps(OPPOSITE),
        "--data.exclude_labels", json.dumps(arguments.exclude), *arguments.more,
    ]  # fmt: skip
    if (out / "config.yaml").is_file():
        command.append("--resume")
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - begin
    forward = measure_run(out, checkpoint="last", workers=1).scores
    backward = measure_run(out, checkpoint="last", workers=1, order="reverse").scores
    names = np.array(forward.class_names)
    labels = names[forward.labels]
    right = names[forward.logits.argmax(1)] == labels
    turned = names[backward.logits.argmax(1)]
    directed = np.isin(labels, list(OPPOSITE))
    opposite = turned[directed] == np.array([OPPOSITE[label] for label in labels[directed]])
    figures = {
        "count": len(labels),
        "right": int(right.sum()),
        "directed": int(directed.sum()),
        "right_directed": int(right[directed].sum()),
        "opposite": int(opposite.sum()),
        "own_reversed": int((turned == labels)[directed].sum()),
        "seconds": seconds,
    }
    result.write_text(json.dumps(figures) + "\n")
    print(out.name, figures, flush=True)
    return figures


def _report(model: str, seeds: list[list[dict[str, float]]]) -> None:
    def share(part: str, whole: str) -> str:
        shares = [
            100 * sum(fold[part] for fold in folds) / sum(fold[whole] for fold in folds) for folds in seeds
        ]
        deviation = f" ± {np.std(shares, ddof=1):.1f}" if len(shares) > 1 else ""
        return f"{np.mean(shares):.1f}{deviation} %"

    by_fold = [
        f"{100 * np.mean([folds[number]['right'] / folds[number]['count'] for folds in seeds]):.1f}"
        for number in range(len(seeds[0]))
    ]
    seconds = [fold["seconds"] for folds in seeds for fold in folds]
    print(f"\n{model}: {len(seeds)} seeds x {len(seeds[0])} folds")
    print(f"  accuracy, all classes       {share('right', 'count')}   by fold: {', '.join(by_fold)}")
    print(f"  accuracy, directions        {share('right_directed', 'directed')}")
    print(f"  reversed: opposite label    {share('opposite', 'directed')}")
    print(f"  reversed: own label         {share('own_reversed', 'directed')}")
    print(
        f"  training time a fold        median {np.median(seconds):.0f} s, longest {max(seconds):.0f} s\n",
        flush=True,
    )


if __name__ == "__main__":
    main()
