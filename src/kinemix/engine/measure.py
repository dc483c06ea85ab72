"""A finished run, tested: on what it held out, or on other data; forwards, backwards or shuffled."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from kinemix.atomic import write_atomically
from kinemix.config import DataConfig, Protocol, from_dict
from kinemix.data.annotations import Annotations
from kinemix.data.loader import build_test_loader
from kinemix.data.sources import locate_source, open_annotations, open_splits
from kinemix.data.views import Order
from kinemix.engine.processes import Alone, do_all, do_first, gather
from kinemix.engine.progress import CountBar
from kinemix.engine.run_directory import CONFIG_NAME
from kinemix.engine.settle import make_absolute, make_paths_absolute
from kinemix.engine.tracking.following import report_test
from kinemix.engine.unreadable import check_unreadable
from kinemix.errors import CheckpointError, ConfigError, DataError
from kinemix.evaluate.evaluator import evaluate
from kinemix.evaluate.metrics import AnyMetrics, Metrics, metrics_to_dict
from kinemix.evaluate.named_protocols import apply_protocol, find_protocol
from kinemix.evaluate.protocol import check_mirrors, override_views, protocol_from_dict, protocol_to_dict
from kinemix.evaluate.scores import Scores, merge_scores, write_scores
from kinemix.evaluate.submission import check_space, write_submission
from kinemix.label_space import LabelSpace, label_space_from_dict
from kinemix.models.checkpoint import find_checkpoint, load_checkpoint, read_hash
from kinemix.models.video import VideoModel

_OF_OTHER_DATA = {
    "root",
    "class_file",
    "labels_start_at",
    "exclude_labels",
    "split",
    "task",
    "label_separator",
}
"""Options that make no sense for what the run held out: it is what it is."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a test found.

    Attributes:
        scores: every logit.
        metrics: the figures; ``None`` where nobody here knows the labels.
        scores_path, metrics_path, submission_path: the files that were written.
        checkpoint: the folder of the weights.
        epoch: epochs that they were trained for.
        chosen_on: whether these very samples chose the checkpoint among the epochs.
        notices: what the user should know about the data.
    """

    scores: Scores
    metrics: AnyMetrics | None
    scores_path: Path
    metrics_path: Path
    submission_path: Path | None
    checkpoint: Path
    epoch: int
    chosen_on: bool
    notices: tuple[str, ...]

    def summary(self) -> dict[str, float]:
        """The figures that are one number each; none where nobody knows the labels."""
        return {} if self.metrics is None else self.metrics.summary()

    @property
    def accuracies(self) -> Metrics:
        """The figures of a test that asks one question, with one answer.

        Raises:
            DataError: it asks another kind of question, or nobody knows the answers.
        """
        if not isinstance(self.metrics, Metrics):
            raise DataError(
                f"{self.checkpoint}: asks about {self.scores.space.describe()}: not one label a video"
            )
        return self.metrics


def measure_run(
    run: str | Path,
    source: str | None = None,
    *,
    checkpoint: str | None = None,
    protocol: str | None = None,
    num_clips: int | None = None,
    num_crops: int | None = None,
    keep_views: bool = False,
    order: Order = "forward",
    data_options: Mapping[str, Any] | None = None,
    submission: str | Path | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: torch.device | str | None = None,
    fabric: Fabric | None = None,
) -> Measurement:
    """Test a run, write its scores (Parquet) and figures (JSON) into the run directory, and tell its trackers.

    Args:
        run: run directory, or a checkpoint folder.
        source: folder or list file to test on; by default what the run held out.
        checkpoint: ``best`` or ``last``; by default the best, or the last where there is no best.
        protocol: name of a paper's protocol, whose views take the place of the run's
            (:func:`kinemix.evaluate.list_protocols`).
        num_clips, num_crops: of the protocol, if other than that.
        keep_views: write the logits of every view too.
        order: of each clip's frames.
        data_options: fields of :class:`kinemix.config.DataConfig`, if other than the run's.
        submission: file for the EPIC-Kitchens-55 challenge (:mod:`kinemix.evaluate.submission`), to be written too.
        batch_size: videos at a time.
        workers: loader processes.
        device: by default CUDA where there is one.
        fabric: launched: its processes share the samples out and test each once, on devices of theirs. The first of
            them writes the files, and all return the same.

    Raises:
        KinemixError: checkpoint or data cannot be used; more unreadable videos than ``data.max_unreadable``.
    """
    if batch_size < 1 or workers < 0:
        raise ConfigError(f"batch_size={batch_size}, workers={workers}: give at least 1 and 0")
    team, source, options = fabric or Alone(), make_absolute(source), dict(data_options or {})

    def change(views: Protocol) -> Protocol:
        views = views if protocol is None else apply_protocol(views, protocol)
        return override_views(views, num_clips=num_clips, num_crops=num_crops)

    test = do_all(
        team,
        lambda: _open_test(
            Path(run), source, options, checkpoint=checkpoint, change=change, submits=submission is not None
        ),
    )
    folder, metadata, views, annotations = test.folder, test.metadata, test.views, test.annotations
    device = device or ("cuda" if torch.cuda.is_available() else "cpu") if fabric is None else fabric.device
    data = test.data
    loader = build_test_loader(
        annotations,
        protocol=views,
        batch_size=batch_size,
        order=order,
        reader=data.reader,
        short_side=data.short_side,
        cache=data.cache,
        max_seconds=data.max_seconds,
        workers=workers,
        rank=team.global_rank,
        world_size=team.world_size,
    )
    with CountBar("testing", total=loader.num_samples, quiet=not team.is_global_zero) as bar:
        part = do_all(
            team,
            lambda: evaluate(
                test.model.to(device),
                loader,
                ids=[sample.name for sample in annotations.samples],
                uids=_list_uids(annotations),
                space=test.space,
                protocol=views,
                mirrored_labels=metadata.get("mirrored_labels"),
                order=order,
                description={
                    **test.model.description,
                    "checkpoint": str(folder),
                    "epoch": metadata.get("epoch"),
                    "weights": test.weights,
                },
                device=device,
                keep_views=keep_views,
                on_batch=bar.advance,
            ),
        )
    scores = merge_scores(gather(team, part))
    check_unreadable(dict(scores.unreadable), total=len(annotations), limit=data.max_unreadable)
    metrics = scores.metrics() if scores.labelled else None
    chosen = {name: value for name, value in options.items() if name in _OF_OTHER_DATA}
    stem = name_test(
        folder,
        views,
        order=order,
        source=source,
        options=chosen,
        protocol=protocol,
        is_changed=num_clips is not None or num_crops is not None,
    )

    def write() -> list[str]:
        _write(stem, scores, metrics, views, source=source, options=chosen)
        if submission is not None:
            write_submission(scores, Path(submission))
        if metrics is None or not (stem.parent / CONFIG_NAME).is_file():
            return []
        return report_test(
            stem.parent,
            stem.name.removeprefix("test-"),
            metrics.summary(),
            iteration=metadata.get("iteration", 0),
            epoch=metadata.get("epoch", 0),
        )

    told = do_first(team, write) or []
    return Measurement(
        scores=scores,
        metrics=metrics,
        scores_path=_add_suffix(stem, ".parquet"),
        metrics_path=_add_suffix(stem, ".json"),
        submission_path=None if submission is None else Path(submission),
        checkpoint=folder,
        epoch=metadata.get("epoch", 0),
        chosen_on=source is None and folder.name == "best",
        notices=(*test.notices, *_compare_size(views, protocol), *told),
    )


@dataclass(frozen=True, kw_only=True)
class _Test:
    """What a test is made of, before anything was shown to the network."""

    folder: Path
    model: VideoModel
    weights: str
    metadata: dict[str, Any]
    views: Protocol
    space: LabelSpace
    data: DataConfig
    annotations: Annotations
    notices: tuple[str, ...]


def _open_test(
    run: Path,
    source: str | None,
    options: Mapping[str, Any],
    *,
    checkpoint: str | None,
    change: Callable[[Protocol], Protocol],
    submits: bool,
) -> _Test:
    check_data_options(source, options)
    folder = find_checkpoint(run, checkpoint)
    # Asked before: where a training replaces them just then, the test is taken for one of other weights, and run again.
    weights = read_hash(folder)
    model, metadata = load_checkpoint(folder)
    views, space, data = read_metadata(folder, metadata)
    if submits:
        check_space(space)
        options = {**options, "max_missing": 0.0}  # a submission answers every segment
    views = change(views)
    check_mirrors(views, metadata.get("mirrored_labels"), space.class_names)
    first_number = data.labels_start_at or 0
    data = settle_test_data(data, source, options, space)
    annotations, notices = open_test_samples(source, data, space, first_number=first_number)
    return _Test(
        folder=folder,
        model=model,
        weights=weights,
        metadata=metadata,
        views=views,
        space=space,
        data=data,
        annotations=annotations,
        notices=notices,
    )


def _compare_size(views: Protocol, name: str | None) -> tuple[str, ...]:
    """What to say where the paper's network is of another size than this one."""
    size = find_protocol(name).size if name else None
    if size is None or views.input.size == (size, size):
        return ()
    ours = " x ".join(map(str, views.input.size))
    return (f"{name} is {size} px in the paper; this network sees {ours}",)


def _list_uids(annotations: Annotations) -> list[str]:
    """The dataset's own names of the samples, where all have one."""
    uids = [sample.id for sample in annotations.samples if sample.id is not None]
    return uids if len(uids) == len(annotations) else []


def check_data_options(source: str | None, options: Mapping[str, Any], *, verb: str = "test") -> None:
    """Raise a :class:`ConfigError` for an option that says how other data are read, where none are named."""
    if source is None and (misplaced := sorted(_OF_OTHER_DATA & options.keys())):
        raise ConfigError(
            f"data.{misplaced[0]}: says how DATA is read, so name them: kinemix {verb} RUN DATA"
        )


def read_metadata(folder: Path, metadata: dict[str, Any]) -> tuple[Protocol, LabelSpace, DataConfig]:
    """Protocol, classes and data of the run that a checkpoint belongs to.

    Raises:
        CheckpointError: it was written by no run.
    """
    try:
        protocol = protocol_from_dict(metadata["protocol"])
        space = label_space_from_dict(metadata["class_names"], metadata.get("label_space", {}))
        return protocol, space, from_dict(DataConfig, metadata["config"]["data"])
    except KeyError as error:
        raise CheckpointError(
            f"{folder}: a network without {error}; give a run directory of `kinemix train`"
        ) from error


def settle_test_data(
    data: DataConfig, source: str | None, options: Mapping[str, Any], space: LabelSpace
) -> DataConfig:
    """How the data are read: as in the run, unless the options say otherwise.

    What belongs to lists alone is passed on from the run's list to another list, not to a folder.
    """
    if source is None:
        return replace(data, **options)
    if space.tasks and "task" in options:
        raise ConfigError(
            f"data.task={options['task']}: the run answers {', '.join(space.tasks)} together: leave it out"
        )
    lists = [locate_source(one)[1].is_file() for one in (data.source, source)]
    if not all(lists):
        data = replace(data, root=None, labels_start_at=None, class_file=None, label_separator=None)
    # The run's split belongs to its data; other data has its own first one.
    data = replace(data, split=None, task=",".join(space.tasks) or data.task)
    return make_paths_absolute(replace(data, source=source, **options))


def open_test_samples(
    source: str | None, data: DataConfig, space: LabelSpace, *, first_number: int
) -> tuple[Annotations, tuple[str, ...]]:
    """The samples that a run is tested on, and what the user should know about them.

    Raises:
        DataError: they cannot be opened, or the run's own are not what they were.
    """
    leading = space.pick(space.leading) if space.leading is not None else space
    if source is not None:
        annotations, notices = open_annotations(
            source,
            class_names=leading.class_names,
            root=data.root,
            labels_start_at=data.labels_start_at,
            exclude_labels=data.exclude_labels,
            class_file=data.class_file,
            first_number=first_number,
            split=data.split,
            task=data.task,
            task_names={task: space.pick(task).class_names for task in space.tasks} or None,
            label_separator=data.label_separator,
            max_missing=data.max_missing,
        )
        _check_questions(source, annotations.space, space)
        return annotations, notices
    cure = "name the data: kinemix test RUN DATA"
    if not locate_source(data.source)[1].exists():
        raise DataError(f"{data.source}: the run's own data are no longer there; {cure}")
    splits = open_splits(data)
    if not len(splits.val):
        raise DataError(f"{data.source}: the run held nothing out; {cure}")
    if splits.space != space:
        raise DataError(f"{data.source}: its classes have changed since the run; {cure}")
    return splits.val, splits.notices


def _check_questions(source: str, asked: LabelSpace, learnt: LabelSpace) -> None:
    """Raise a :class:`ConfigError` unless the data ask what the run has learnt."""
    if asked.multilabel != learnt.multilabel:
        kinds = ("one label a sample", "any number of labels a sample")
        cure = "leave data.label_separator out" if asked.multilabel else "set data.label_separator"
        raise ConfigError(
            f"{source}: has {kinds[asked.multilabel]}, the run has learnt {kinds[learnt.multilabel]}: {cure}"
        )
    if asked.tasks != learnt.tasks:
        names = [", ".join(space.tasks) or "one question" for space in (asked, learnt)]
        raise ConfigError(f"{source}: asks {names[0]}, the run has learnt {names[1]}: leave data.task out")


def name_test(
    checkpoint: Path,
    views: Protocol,
    *,
    order: Order = "forward",
    source: str | None = None,
    options: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    is_changed: bool = False,
) -> Path:
    """Where the files of a test lie, without their suffix: in the run directory, also where a checkpoint was named.

    Args:
        checkpoint: folder of the weights.
        views: how videos are shown.
        order: of the frames.
        source: absolute, of other data than what the run held out.
        options: how the other data are read; other samples may come of it.
        protocol: name of the views, if they have one.
        is_changed: whether the views are not quite those of that name.
    """
    folder = checkpoint.parent if checkpoint.name in ("best", "last") else checkpoint
    shape = f"{views.num_frames}x{views.num_clips}x{views.num_crops}"
    if views.crop_size != "input":
        shape += f"-{views.crop_size}"
    parts = ["test", *_name_source(source, options or {})]
    parts += [protocol] if protocol else []
    parts += [shape] if is_changed or not protocol else []
    parts += ["last"] if checkpoint.name == "last" else []
    parts += [order] if order != "forward" else []
    return folder / "-".join(parts)


def _write(
    stem: Path,
    scores: Scores,
    metrics: AnyMetrics | None,
    protocol: Protocol,
    *,
    source: str | None,
    options: Mapping[str, Any],
) -> None:
    content = {
        "protocol_line": scores.describe_protocol(),
        "protocol": protocol_to_dict(protocol),
        "order": scores.order,
        "source": source,
        "data_options": dict(options),
        "model": scores.model,
        "unreadable": scores.unreadable,
        **({} if metrics is None else metrics_to_dict(metrics)),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_scores(scores, _add_suffix(stem, ".parquet"))
    write_atomically(_add_suffix(stem, ".json"), lambda partial: partial.write_text(text, encoding="utf-8"))


def _add_suffix(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)  # a name may have dots of its own


def _name_source(source: str | None, options: Mapping[str, Any]) -> list[str]:
    """The last part of the path and, since many may share it, a hash of all that chose samples; and the split."""
    if source is None:
        return ["held-out"]
    others = [f"{name}={value}" for name, value in sorted(options.items()) if name != "split"]
    digest = hashlib.blake2b("\n".join([source, *others]).encode(), digest_size=4).hexdigest()
    return [f"{Path(source).name}-{digest}", *([options["split"]] if options.get("split") else [])]
