"""What a network can do: precisions, compilation, export. It is tried, not declared.

Each way is tried on a copy of the network on the processor, and the answer is compared with the plain one. What
fails says why, in one line. One thing is known and not tried, because it can take the process down:
:func:`explain_bfloat16`.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim

from kinemix.evaluate.complexity import choose_clip
from kinemix.evaluate.markdown import format_table
from kinemix.evaluate.memory import training
from kinemix.models.factory import create_model
from kinemix.models.video import VideoModel
from kinemix.temporal import shelf

TOLERANCE = 1e-3
"""Largest difference of logits, relative to the largest logit, at which two ways agree."""

OUTLIER = 1000.0
"""Times that the norm of one weight's gradient may exceed the largest one in single precision."""

BATCH_SIZE = 2

WAYS = ("float32", "bfloat16", "torch.compile", "torch.export, any batch")
"""What is tried, in this order."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """Whether a network can do one thing.

    Attributes:
        way: one of ``WAYS``.
        works: whether it did, and gave the right logits.
        detail: why not, or what is worth knowing.
    """

    way: str
    works: bool
    detail: str = ""

    def __str__(self) -> str:
        return ("yes" if self.works else "no") + (f": {self.detail}" if self.detail else "")


def explain_bfloat16(model: nn.Module) -> str | None:
    """Why a network must not be trained in bfloat16 on the processor; ``None`` if it may be.

    oneDNN's gradient of the weights of an ungrouped 3D convolution is wrong there: with clips of two frames and a
    kernel of three it holds whatever lay in memory, and on maps that are one pixel high or wide a strided kernel
    writes beyond its own memory. Both depend on shapes that are only seen on the way, so all such layers that
    learn are named. The forward pass is right, and so are grouped convolutions and kernels of 1 x 1 x 1.
    """
    for path, layer in model.named_modules():
        if (
            isinstance(layer, nn.Conv3d)
            and layer.groups == 1
            and max(layer.kernel_size) > 1
            and layer.weight is not None  # a layer that MTConv stands in for keeps none
            and layer.weight.requires_grad
        ):
            kernel = " x ".join(map(str, layer.kernel_size))
            return f"torch's bfloat16 gradient of 3D convolutions such as {path} ({kernel}) corrupts memory"
    return None


def check_support(
    model: VideoModel,
    *,
    num_frames: int | None = None,
    input_size: tuple[int, int] | None = None,
    backend: str = "inductor",
) -> list[Support]:
    """Try a network in every way, on the processor.

    ``float32`` and ``bfloat16``: forward in evaluation, forward and backward in training; all finite, and no
    gradient of a wild size. Where :func:`explain_bfloat16` forbids the backward pass, that is the answer.
    ``torch.compile``: the compiled network gives the same logits; a network that only compiles in pieces says
    where it breaks. ``torch.export, any batch``: exported with a dynamic batch, it gives the same logits for
    another number of clips.

    Args:
        model: it is not changed.
        num_frames, input_size: of the clips of noise that are tried.
        backend: of ``torch.compile``; ``inductor`` needs a C++ compiler.
    """
    num_frames, size = choose_clip(model, num_frames, input_size)
    model = copy.deepcopy(model).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn((BATCH_SIZE, num_frames, model.input_spec.channels, *size), generator=generator)
    tries: tuple[Callable[[], str], ...] = (
        lambda: _run_in(torch.float32, model, clip),
        lambda: _run_in(torch.bfloat16, model, clip),
        lambda: _compile(model, clip, backend),
        lambda: _export(model, clip),
    )
    return [_try(way, run) for way, run in zip(WAYS, tries, strict=True)]


def _try(way: str, run: Callable[[], str]) -> Support:
    try:
        with _silence():
            return Support(way=way, works=True, detail=run())
    except Exception as error:  # whatever torch's compilers raise is the answer here
        return Support(way=way, works=False, detail=_explain(error))


def _run_in(dtype: torch.dtype, model: VideoModel, clip: Tensor) -> str:
    with torch.no_grad():
        _check_finite(copy.deepcopy(model).to(dtype)(clip.to(dtype)), "the logits")
    if dtype == torch.bfloat16 and (fault := explain_bfloat16(model)):
        raise ArithmeticError(f"forward only: {fault}")
    exact = _find_gradients(model, clip)
    usual = max((gradient.norm().item() for gradient in exact.values()), default=0.0)
    for name, gradient in _find_gradients(copy.deepcopy(model).to(dtype), clip.to(dtype)).items():
        _check_finite(gradient, f"the gradient of {name}")
        # Kernels have been seen to return what happened to lie in memory: finite at times, but never small.
        if gradient.float().norm() > OUTLIER * usual:
            raise ArithmeticError(
                f"the gradient of {name} is no gradient: its norm is {gradient.float().norm():.0e}"
            )
    return ""


def _find_gradients(model: VideoModel, clip: Tensor) -> dict[str, Tensor]:
    """Gradients of all trainable weights, of a copy in training mode, which draws the same random numbers."""
    model = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), training(model, BATCH_SIZE):
        torch.manual_seed(0)
        model(clip).float().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _compile(model: VideoModel, clip: Tensor, backend: str) -> str:
    with torch.no_grad():
        expected = model(clip)
        torch.compiler.reset()
        try:
            _check_equal(torch.compile(model, fullgraph=True, backend=backend)(clip), expected)
        except torch._dynamo.exc.TorchDynamoException as error:
            torch.compiler.reset()
            _check_equal(torch.compile(model, backend=backend)(clip), expected)
            return f"in pieces: {_explain(error)}"
        finally:
            torch.compiler.reset()
    return ""


def _export(model: VideoModel, clip: Tensor) -> str:
    with torch.no_grad():
        program = torch.export.export(model, (clip,), dynamic_shapes=({0: Dim("batch")},))
        more = torch.cat([clip, clip.flip(1)[:1]])
        _check_equal(program.module()(more), model(more))
    return ""


def _check_finite(value: Tensor, what: str) -> None:
    if not value.isfinite().all():
        raise ArithmeticError(f"infinite values or NaN in {what}")


def _check_equal(value: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().clamp(min=1e-12)
    difference = ((value - expected).abs().max() / scale).item()
    if not difference <= TOLERANCE:
        raise ArithmeticError(f"the logits differ by {difference:.1%} of the largest")


def _explain(error: Exception) -> str:
    """The first line that says something, without torch's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:1])[:160]}".rstrip(": ")


@contextmanager
def _silence() -> Iterator[None]:
    """Warnings of torch's compilers about themselves are no one's business here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---------------------------------------------------------------------------------------------- the matrix

_HOSTS: Mapping[str, str] = {"gsm": "bn_inception", "mtconv": "x3d_s"}
"""Backbones for modules whose paper's own are of a kind; every other module is tried on ``_USUAL_HOST``."""
_USUAL_HOST = "resnet18"

CLIP_NETWORKS = ("x3d_s", "r3d_resnet50", "r2plus1d_resnet50", "torchvision.r3d_18")
"""Networks that see time by themselves; those that differ in depth alone are not repeated."""

NUM_FRAMES, SIZE, NUM_CLASSES = 8, 64, 10
"""Of the clips that the matrix is made with."""


def list_networks() -> list[str]:
    """The networks of the matrix: every module of the shelf on a small backbone, and the clip networks."""
    return [f"{name}_{_HOSTS.get(name, _USUAL_HOST)}" for name in shelf.names()] + list(CLIP_NETWORKS)


def check_networks(
    names: Sequence[str], progress: Callable[[int], None] | None = None, *, backend: str = "inductor"
) -> dict[str, list[Support]]:
    """:func:`check_support` of several networks by name; ``progress`` is told how many are done."""
    matrix = {}
    for done, name in enumerate(names, start=1):
        torch.manual_seed(0)
        model = create_model(name, num_classes=NUM_CLASSES, num_frames=NUM_FRAMES, input_size=SIZE)
        matrix[name] = check_support(model, backend=backend)
        if progress is not None:
            progress(done)
    return matrix


_PREFACE = f"""# What every module can do

Made by `make support` (`kinemix list --support --markdown docs/support.md`). Do not edit it.

Every module of the shelf on a small backbone, and the clip networks, tried on the processor with clips of
{NUM_FRAMES} frames of {SIZE} px, torch {torch.__version__.partition("+")[0]}. `float32` and `bfloat16`: forward, and
backward in training, finite. `torch.compile` (inductor, one graph) and `torch.export` with a dynamic batch: the
same logits as the plain network. For any other network ask `kinemix inspect MODEL --support`.

`forward only`: the weights' gradient of an ungrouped 3D convolution in bfloat16 is wrong in torch's processor
kernels: with clips of two frames it holds whatever lay in memory, on maps of one pixel it writes beyond its own.
`kinemix train` refuses `machine.precision=bf16-mixed` for such networks on the processor: train them in float32
there. The forward pass is right.

"""


def write_support(matrix: Mapping[str, Sequence[Support]]) -> str:
    """The page ``docs/support.md``."""
    return _PREFACE + format_table(
        ("network", *WAYS), [(name, *map(str, row)) for name, row in matrix.items()]
    )
