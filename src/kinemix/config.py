"""The one place where options are declared: frozen dataclasses, each field with its meaning.

The command line, the YAML files and the checkpoints read these. Only :mod:`kinemix.cli`, the
demo and the engine's run see a whole config; below them, plain keyword arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from kinemix.errors import ConfigError, did_you_mean
from kinemix.hints import as_tuple

Color = Literal["rgb", "bgr", "gray"]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network wants to see: the contract between models and data, which never import each other.

    Attributes:
        size: height and width in pixels.
        color: channel order, or one grey channel.
        mean: one value a channel, subtracted; in units of ``scale``.
        std: one value a channel, divided by.
        scale: pixel values run from 0 to this; 1 for ImageNet's convention, 255 for Caffe's.
    """

    size: tuple[int, int] = (224, 224)
    color: Color = "rgb"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scale: float = 1.0

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a video becomes a number: it travels in the checkpoint and is printed with every figure.

    Attributes:
        input: size, colour and normalisation that the network wants.
        num_frames: frames that enter the backbone, for one view.
        sampling: ``sparse`` takes one frame from each of ``num_frames`` equal segments of the whole video
            (TSN); ``dense`` takes frames ``frame_stride`` apart from a window.
        frame_stride: distance in frames, for dense sampling; null spreads the frames over a window of 64, as the
            published code does (64 // ``num_frames``).
        num_clips: clips a video; their logits are averaged.
        num_crops: crops a clip: 1 (centre), 3 (left, centre, right), 10 (five and their mirror images).
        crop_fraction: share of the resized short side that a crop covers; the papers' 224 of 256 is 0.875,
            1 resizes the frame to cover the crop exactly.
        crop_size: how large the crops of a test are: ``input`` as the network's input; ``short_side`` as large as
            the resized frame allows (256 for 224 and 0.875); ``frame`` the whole resized frame, which is then
            the one crop. The last two need a network that takes frames of any size.
        exposure: ``frame`` gives all frames of a clip the same mean and spread in every channel, before the
            difference, so that a camera that gets used to the light while it records does not look like motion.
        difference: subtracts a still background, knowing nothing of order: ``clip_mean`` the mean frame of the
            clip (what moves leaves a faint negative of itself everywhere it was), ``clip_median`` the median
            frame (what covers a place for less than half of the clip leaves nothing there).
        contrast: ``clip`` divides every clip by its own standard deviation, after the difference, so that
            strong and weak light look alike; ``fixed`` leaves it at the network's ``std``.
        average: what is averaged over views.
    """

    input: InputSpec = field(default_factory=InputSpec)
    num_frames: int = 8
    sampling: Literal["sparse", "dense"] = "sparse"
    frame_stride: int | None = 8
    num_clips: int = 1
    num_crops: Literal[1, 3, 10] = 1
    crop_fraction: float = 0.875
    crop_size: Literal["input", "short_side", "frame"] = "input"
    exposure: Literal["fixed", "frame"] = "fixed"
    difference: Literal["none", "clip_mean", "clip_median"] = "none"
    contrast: Literal["fixed", "clip"] = "fixed"
    average: Literal["logits", "probabilities"] = "logits"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the samples come from, and who is held out.

    Attributes:
        source: a folder of class folders (optionally under train/val/test), or a list file (.txt, .csv,
            .parquet) of paths and labels.
        val_source: a second folder or list to validate on; by default the source's own split or
            ``val_share``.
        root: folder that relative paths in a list file start from; by default the file's own folder.
        val_share: share of the samples held out where the source has no split of its own, drawn by class.
        folds: cross-validation instead of ``val_share``: number of parts, one of which is held out.
        fold: the part that is held out, from 0.
        group_by: column of the list file, or ``"name"``, whose values are never on both sides of a split.
            ``auto`` takes a column called group, session, subject or the like, else file names such as
            ``v_Class_g03_c01``; none means that every video stands for itself.
        exclude_labels: classes to leave out.
        balance_classes: all classes come equally often in training, however many videos they have: an epoch is as
            long as ever, videos of small classes come more than once in it, and large classes take turns.
        split_seed: seed of the split; the training seed does not change who is held out.
        labels_start_at: number of the first class in list files with numeric labels; needed where they do
            not start at 0.
        class_file: text file with one class name a line, in the order of the numbers (``3 jump`` is read as
            well as ``jump``); gives numeric labels their names.
        split: which of a dataset's published splits: ``1`` to ``3`` of UCF-101 and HMDB51, ``v1`` or ``v2`` of
            Diving48; by default its first (``kinemix data show NAME``).
        task: which question is learnt where a dataset asks several: ``verb``, ``noun`` or ``action`` of
            EPIC-Kitchens, some of them with commas between (``verb,noun``), or ``all`` at once; by default its
            last. In a list with a header, names of columns. Of several, the last is the leading one: its figure
            chooses the checkpoint.
        label_separator: in a list, what stands between the labels of one sample (``|``, ``;``, ``,``). Given, a
            sample may have any number of classes, and each class is a question of yes or no.
        max_missing: share of listed videos that may be missing (dead links); they are counted, listed in
            ``missing.txt`` and left out. The papers themselves miss up to 8 % of Kinetics.
        max_unreadable: share of unreadable videos above which a run stops.
        max_seconds: for reading one sample; a video that takes longer counts as unreadable (Linux, with
            workers). One that crashes the decoder counts as unreadable too.
        reader: video decoder.
        short_side: decode to this short side, before anything else; saves time where networks are small.
        cache: folder in which decoded frames are kept between epochs and runs (with ``short_side``).
        workers: loader processes.
    """

    source: str = ""
    val_source: str | None = None
    root: str | None = None
    val_share: float = 0.2
    folds: int | None = None
    fold: int = 0
    group_by: str | None = "auto"
    exclude_labels: tuple[str, ...] = ()
    balance_classes: bool = False
    split_seed: int = 0
    labels_start_at: Literal[0, 1] | None = None
    class_file: str | None = None
    split: str | None = None
    task: str | None = None
    label_separator: str | None = None
    max_missing: float = 0.1
    max_unreadable: float = 0.01
    max_seconds: float = 120.0
    reader: Literal["auto", "pyav", "torchcodec"] = "auto"
    short_side: int | None = None
    cache: str | None = None
    workers: int = 2


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What training does to a clip; one draw a clip, so that every frame is treated alike.

    Attributes:
        crop: ``multi_scale`` is TSN's: scales of the short side, neighbouring pairs, 13 fixed offsets;
            ``random`` a share of the short side between the smallest and largest scale, anywhere in the frame;
            ``random_resized`` area and aspect; ``center`` is the test crop.
        scales: of the short side; for ``random_resized`` the range of the area.
        flip: horizontal mirror with probability one half. ``auto`` mirrors and swaps labels whose names
            differ by left/right or clockwise/counterclockwise; ``on`` mirrors without swapping; ``off`` does
            not.
        flip_labels: label pairs that a mirror swaps, given by hand (each name to its mirror's name).
            With it, classes that it does not name are not mirrored.
        reverse_labels: label pairs that playing backwards swaps, given by hand (``open`` to ``close``). Clips of
            the classes that it names are reversed with probability one half; no others are.
        brightness: colour jitter, as in torchvision; drawn once a clip.
        contrast: likewise.
        saturation: likewise.
        hue: likewise; at most 0.5.
        drift: largest change of exposure from the first frame to the last, in stops (1 doubles the light), as
            of a camera that adapts; what gets brighter than white is cut off, as in a camera.
        mixup: mixes each clip with another of its batch, frame by frame, in shares drawn from a Beta distribution
            with this parameter, and their labels likewise; 0 does not.
        cutmix: likewise, by a rectangle of the other clip, the same in all frames. With both, each batch draws one.
        mix_share: share of the batches in which clips are mixed.
        erase: probability of erasing one rectangle, the same in all frames.
        noise: standard deviation of Gaussian noise added to normalised pixels.
        translate: largest shift of the whole clip, as a share of its size.
        rotate: largest rotation of the whole clip in degrees.
        zoom: largest change in size of the whole clip, as a share of its size.
        jitter_frames: sparse sampling draws a frame at random within its segment (off: the middle).
        segments: of sparse sampling. ``equal`` cuts the whole video into ``num_frames`` parts; ``floor`` is
            the published formula, which never looks at the last n mod T of n frames: nothing in long videos,
            but half of a video with 31 frames where T = 16.
        trim: largest share of the video cut off at each end before sampling.
    """

    crop: Literal["multi_scale", "random", "random_resized", "center"] = "multi_scale"
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: Literal["auto", "on", "off"] = "auto"
    flip_labels: dict[str, str] = field(default_factory=dict)
    reverse_labels: dict[str, str] = field(default_factory=dict)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    drift: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_share: float = 1.0
    erase: float = 0.0
    noise: float = 0.0
    translate: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    jitter_frames: bool = True
    segments: Literal["equal", "floor"] = "equal"
    trim: float = 0.0


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights change.

    Attributes:
        name: optimizer.
        lr: learning rate after warm-up, for the whole batch (never scaled behind your back).
        lr_batch: the batch for which ``lr`` is meant: with another one, over all processes and accumulated
            micro-batches, the rate is scaled in proportion, and the run says so. null takes ``lr`` as it is.
        lr_scales: factors on the rate by shell patterns of parameter names, such as ``{"*": 0.1, "*.fc.*": 1}``;
            of several patterns that match the last counts, and 0 freezes.
        policy: ``tsn`` lets biases learn twice as fast, and neither them nor normalisation layers decay; ``tsm``
            (MixTConv's too) lets the classifier's weights learn five and its bias ten times as fast besides.
        momentum: of SGD.
        nesterov: Nesterov's momentum, of SGD.
        weight_decay: pull of the weights towards zero (decoupled in AdamW).
        decay_norms: of the policy ``uniform``: apply it to biases and normalisation layers too.
        schedule: ``step`` multiplies by ``gamma`` at each of ``milestones``; ``cosine`` falls to zero along
            half a cosine.
        schedule_by: whether it is read anew at every ``iteration`` or every ``epoch``.
        cosine_over: the half cosine spans the ``rest`` of the run after the warm-up, or the whole ``run``.
        milestones: of ``step``, in epochs.
        gamma: of ``step``.
        warmup_epochs: linear rise to the rate, counted within ``epochs``.
        warmup_iterations: the same in steps of the optimizer; give one of the two.
        warmup_start: share of the rate at which the rise starts.
        epochs: passes over the training samples.
        batch_size: clips in a micro-batch, on each process: a step of the optimizer learns from
            ``batch_size`` x ``accumulate`` x processes.
        accumulate: micro-batches added up before a step of the optimizer.
        multigrid: batches of many small clips first and of few large ones last, each as much work as the others.
            The ``long`` cycle changes frames, size and the rate from epoch to epoch, the ``short`` one the size
            from step to step; ``both``, or ``none``. For networks that take clips of any length and size.
        multigrid_cycles: long cycles in the run, where ``schedule`` is not ``step``: equal parts of it, after
            which an equal part has the full shape. With ``step``, each part between milestones is one.
        clip_grad_norm: largest norm of the gradient; null for no clipping.
        label_smoothing: share of the target spread over all classes (with ``data.label_separator``: over yes
            and no).
        class_weights: of the classes in the loss: ``balanced`` makes up for how often they come in training; or a
            mapping of class names to weights, 1 for the others.
        task_weights: weights of the tasks in the mean of their losses, by name; those not named have 1.
        dropout: before the classifier.
        batch_norm: which batch normalisation layers learn. ``learns``: all; ``partial``: all but the first keep
            their mean and variance (TSN); ``first``: all but the first keep scale and shift as well (CTM on
            UCF-101); ``fixed``: all keep everything.
        frozen_stages: the stem and so many of the network's stages keep weights and statistics; 0 for the stem
            alone, null for nothing. Temporal modules that were put beside their layers learn all the same.
        ema: share that an exponential moving average of the weights keeps at each step (.999 looks back over
            about a thousand); it rises to this from the start, for short trainings. The average is what is then
            validated, saved and tested; null for the weights themselves.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    lr_batch: int | None = None
    lr_scales: dict[str, float] = field(default_factory=dict)
    policy: Literal["uniform", "tsn", "tsm"] = "uniform"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norms: bool = True
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    schedule_by: Literal["iteration", "epoch"] = "iteration"
    cosine_over: Literal["rest", "run"] = "rest"
    milestones: tuple[float, ...] = (30, 40, 45)
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup_iterations: int = 0
    warmup_start: float = 0.01
    epochs: int = 50
    batch_size: int = 16
    accumulate: int = 1
    multigrid: Literal["none", "long", "short", "both"] = "none"
    multigrid_cycles: int = 3
    clip_grad_norm: float | None = 20.0
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    task_weights: dict[str, float] = field(default_factory=dict)
    dropout: float = 0.5
    batch_norm: Literal["learns", "partial", "first", "fixed"] = "learns"
    frozen_stages: int | None = None
    ema: float | None = None


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """What it runs on.

    Attributes:
        accelerator: ``auto``, ``cpu``, ``cuda``, ..., as in Lightning Fabric.
        devices: processes on each machine, one a device; by default as many as torchrun or srun has started there,
            and one where neither has.
        nodes: machines; by default as many as torchrun or srun has started processes on.
        strategy: how several processes share the work. ``ddp``: each has the whole network, and the gradients are
            averaged. ``fsdp``: weights, gradients and the optimizer's state are divided among them (FSDP2), for what
            does not fit on one device. ``auto`` is ``ddp`` for several processes.
        sync_batch_norm: batch normalisation takes mean and variance over the clips of all processes.
        precision: of the arithmetic in the network.
        threads: of the CPU, for each process; by default the cores of this machine, shared evenly.
        compile: use ``torch.compile``.
        recompute: keep only the inputs of the network's blocks, and do their work again in the backward pass
            (activation checkpointing): much less memory for about a third more time.
        channels_last: memory format of the frames.
    """

    accelerator: str = "auto"
    devices: int | None = None
    nodes: int | None = None
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    sync_batch_norm: bool = False
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    threads: int | None = None
    compile: bool = False
    recompute: bool = False
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that ``kinemix train`` can be told.

    Attributes:
        data: where the samples come from.
        model: ``<module>_<backbone>``; ``kinemix models`` lists them.
        pretrained: start from the backbone's published weights.
        init_from: start from the weights of a run, of a checkpoint folder (such as ``kinemix convert`` writes) or of
            another project's file. Layers of the same place and shape are taken over, whatever the temporal
            modules are; the classifier is new unless the classes are the same. The run tells what was taken.
        model_options: the temporal module's options (``kinemix list`` names them), and ``placement``.
        backbone_options: passed to the backbone's constructor (timm).
        size: height and width of the network's input in pixels, one number for a square; by default the
            backbone's own. The model is built for it.
        color: channel order of the network's input, or one grey channel; by default the backbone's own.
        task_bias: with several tasks, the one whose scores bias the others' (a linear map of them is added,
            as LSTA and GSM do with the action's): its name, ``auto`` for the leading task, or null for classifiers
            that know nothing of each other.
        protocol: how videos are turned into network input, in training and in every test afterwards. Its
            ``input`` is filled in from the model, ``size`` and ``color``.
        augment: what training does to a clip.
        optim: how weights change.
        machine: what it runs on.
        out: run directory; by default ``runs/<model>-<data>-<number>``.
        seed: of weights, sampling order and augmentation.
        resume: go on from the last checkpoint in ``out``; ``auto`` does so if a run is there, and starts one if not.
        patience: epochs without a better validation after which the run ends; null trains all of ``optim.epochs``.
        validate_every: epochs between validations; the last epoch is always validated. null never validates, and
            the last weights are the only ones.
        save_steps: steps of the optimizer between checkpoints within an epoch; null counts minutes alone.
        save_minutes: minutes between checkpoints within an epoch; one is written after every epoch too.
        keep_last: checkpoints to keep: ``last``, and those before it in ``earlier``. Where ``last`` is damaged, a
            resumed run goes on from the newest that is whole.
        track: where curves, options and tests go besides ``log.jsonl``: ``tensorboard`` (in the run directory),
            ``wandb`` and ``mlflow`` (their extras install them), or a tracker of your own (``package.module:Class``).
        profile: time some steps near the beginning and trace a few: ``profile.md`` in the run directory says what the
            time goes to and what holds it up.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "mstnet_resnet50"
    pretrained: bool = False
    init_from: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    backbone_options: dict[str, Any] = field(default_factory=dict)
    size: int | tuple[int, int] | None = None
    color: Color | None = None
    task_bias: str | None = "auto"
    protocol: Protocol = field(default_factory=Protocol)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    out: str | None = None
    seed: int = 0
    resume: bool | Literal["auto"] = False
    patience: int | None = None
    validate_every: int | None = 1
    save_steps: int | None = None
    save_minutes: float = 15.0
    keep_last: int = 1
    track: tuple[str, ...] = ("tensorboard",)
    profile: bool = False


C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain dictionaries, lists, strings and numbers: what YAML and JSON can hold."""
    return {item.name: _to_plain(getattr(config, item.name)) for item in fields(config)}


def _to_plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    return value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What :func:`to_dict` gave without the dictionaries in it, under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def from_dict(kind: type[C], values: Mapping[str, Any], *, where: str = "") -> C:
    """The config that :func:`to_dict` was given.

    Args:
        kind: one of the dataclasses of this module.
        values: what :func:`to_dict` returned; a field that is missing takes its default.
        where: dotted path of ``values``, for messages.

    Raises:
        ConfigError: a key that ``kind`` does not have.
    """
    types = get_type_hints(kind)
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            raise ConfigError(f"unknown option {where + key!r}: {did_you_mean(key, types)}")
        if is_dataclass(types[key]):
            value = from_dict(types[key], value, where=f"{where}{key}.")
        known[key] = as_tuple(value, types[key])
    return kind(**known)
