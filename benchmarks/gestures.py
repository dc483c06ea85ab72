"""Cross-validation on a small labelled set of gestures: who needs order, and who has it.

Trains every model of ``--models`` on every fold and seed by the ordinary command line (``kinemix train`` with
``recipes/small_gestures.yaml``), tests the last checkpoint forwards and with the frames reversed, and prints
accuracy and the share of reversed direction clips that get the opposite label: over all folds' samples, with
the deviation over seeds; parameters, multiply-adds and training time beside them. Runs that are finished are
not repeated; ``--table`` prints what there is. Options it does not know go to ``kinemix train``.

    python benchmarks/gestures.py path/to/labels.csv --exclude unclassified
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from kinemix.engine.measure import measure_run
from kinemix.evaluate.complexity import measure_complexity
from kinemix.models.checkpoint import load_checkpoint

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
    parser.add_argument("--table", action="store_true", help="train nothing, print what is finished")
    arguments, arguments.more = parser.parse_known_args()
    if not arguments.table:
        for seed in arguments.seeds:  # a table of fewer seeds is whole sooner than one of fewer models
            for model in arguments.models:
                for fold in range(arguments.folds):
                    _run(arguments, model, seed, fold)
    _print_table(arguments)


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
    begin, used = time.perf_counter(), _count_processor_seconds()
    subprocess.run(command, check=True)
    seconds, processor = time.perf_counter() - begin, _count_processor_seconds() - used
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
        "processor_seconds": processor,
        **_count_costs(out),
    }
    result.write_text(json.dumps(figures) + "\n")
    print(out.name, figures, flush=True)
    return figures


def _count_processor_seconds() -> float:
    """Of all processes that this one has started and seen end, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _count_costs(run: Path) -> dict[str, float]:
    model, _ = load_checkpoint(run / "last")
    complexity = measure_complexity(model)
    return {"parameters": complexity.parameters, "macs": complexity.macs}


def _print_table(arguments: argparse.Namespace) -> None:
    """Means and deviations over the seeds of which every fold is there."""
    print("| network | seeds | accuracy | by fold | directions | reversed: opposite | reversed: own "
          "| M parameters | GMACs | processor s a training |")  # fmt: skip
    print("| --- |" + " --- |" * 9)
    for model in arguments.models:
        seeds = []
        for seed in arguments.seeds:
            files = [
                arguments.out / f"{model}-seed{seed}-fold{fold}" / "gestures.json"
                for fold in range(arguments.folds)
            ]
            if all(file.is_file() for file in files):
                seeds.append([json.loads(file.read_text()) for file in files])
        if seeds:
            print(_format_row(model, seeds), flush=True)


def _format_row(model: str, seeds: list[list[dict[str, float]]]) -> str:
    def share(part: str, whole: str) -> str:
        shares = [
            100 * sum(fold[part] for fold in folds) / sum(fold[whole] for fold in folds) for folds in seeds
        ]
        deviation = f" ± {np.std(shares, ddof=1):.1f}" if len(shares) > 1 else ""
        return f"{np.mean(shares):.1f}{deviation}"

    by_fold = [
        f"{100 * np.mean([folds[number]['right'] / folds[number]['count'] for folds in seeds]):.1f}"
        for number in range(len(seeds[0]))
    ]
    first = seeds[0][0]
    seconds = np.median([fold["processor_seconds"] for folds in seeds for fold in folds])
    cells = [
        model, len(seeds), share("right", "count"), ", ".join(by_fold), share("right_directed", "directed"),
        share("opposite", "directed"), share("own_reversed", "directed"),
        f"{first['parameters'] / 1e6:.3f}", f"{first['macs'] / 1e9:.3f}", f"{seconds:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
