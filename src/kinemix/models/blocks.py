"""Blocks of an image network, found by what they do in a dry run, never by their names or classes.

1. **Residual**: the innermost module whose own ``forward`` adds two maps of equal shape, of which one carries
   convolutions of that module that the other does not. All other modules of its class are blocks as well (a
   stride block may have no shortcut).
2. Networks without such a module: modules that concatenate maps (DenseNet's layers, Inception).
3. Networks without either (VGG): every convolution, as long as its map is more than a pixel. Not so where maps
   attend to themselves: a transformer's convolutions pool tokens, its heads stand in the batch dimension.

What takes the image itself is the stem, and no block.

A stage is all blocks whose output has one size, counted from the largest map. (Blocks of a dilated network
that keep the size share a stage.)
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from kinemix.models.trace import Call, Operation, Trace

# Operations that look at a window or a whole map. On the way from a block's input to a convolution they mean
# that it belongs to a gate (squeeze-and-excitation) or a pooled branch, not to the residual branch's start.
_POOLING = re.compile(r"pool|^mean$|^sum$|^amax$")
_REDUCTION = re.compile(r"adaptive|^mean$|^sum$|^amax$")  # those that look at a whole map, or all channels

# A softmax over more than one vector of logits a sample.
_ATTENTION = re.compile(r"softmax|attention")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a network.

    Attributes:
        path: of the block.
        first_conv: path of the first convolution of its residual branch; the block's own path where several
            concatenated branches begin at its input, and where the block itself is a convolution.
        stage, index: stages from 1, blocks within a stage from 0.
    """

    path: str
    first_conv: str
    stage: int
    index: int


def find_blocks(trace: Trace) -> list[Block]:
    """All blocks of a network, in the order in which they run."""
    residual = {_find_residual_module(trace, op) for op in trace.operations}
    concatenating = {_find_concatenating_module(trace, op) for op in trace.operations}
    if calls := _find_merging_modules(trace, residual):
        hosts = [_find_first_conv(trace, call) for call in calls]
    elif calls := _find_merging_modules(trace, concatenating):
        hosts = [_find_first_conv(trace, call, parallel=True) for call in calls]
    else:
        hosts = calls = _find_plain_convolutions(trace)
    areas = [_measure_area(trace, call) for call in calls]
    stages = {area: 1 + rank for rank, area in enumerate(sorted(set(areas), reverse=True))}
    blocks: list[Block] = []
    for call, host, area in zip(calls, hosts, areas, strict=True):
        index = sum(block.stage == stages[area] for block in blocks)
        blocks.append(Block(path=call.path, first_conv=host.path, stage=stages[area], index=index))
    return blocks


def find_stages(trace: Trace, blocks: Sequence[Block]) -> dict[str, int]:
    """The stage in which every module has done its work: 0 for the stem; none for what follows the last block.

    What stands between two stages (a convolution that halves the map) belongs to the later one.
    """
    calls = {block.path: next(call for call in trace.calls if call.path == block.path) for block in blocks}
    ends = {0: min((call.first for call in calls.values()), default=0)}
    for block in blocks:
        ends[block.stage] = max(ends.get(block.stage, 0), calls[block.path].last)
    stages: dict[str, int] = {}
    for call in trace.calls[1:]:
        stage = next((stage for stage in sorted(ends) if call.last <= ends[stage]), None)
        if stage is not None:
            stages[call.path] = max(stage, stages.get(call.path, 0))
    return stages


def _measure_area(trace: Trace, call: Call) -> int:
    """Pixels of a frame of the last map that a call made."""
    shapes = (op.output_shape for op in reversed(trace.operations[call.first : call.last]))
    shape = call.output_shape or next(filter(trace.is_map, shapes), (0, 0))
    return shape[-2] * shape[-1]


# --------------------------------------------------------------------------------------- blocks by structure


def _find_merging_modules(trace: Trace, kinds: set[type | None]) -> list[Call]:
    """First calls of all modules of the given classes, each the only one in its place.

    A class that somewhere holds two or more of the others is a container of blocks (HRNet's stages), so its
    modules are left out. What is left inside another is a part of that block (an attention in its branch).
    """
    found: dict[str, Call] = {}
    for call in trace.calls[1:]:
        if call.kind in kinds and not _takes_image(trace, call):
            found.setdefault(call.path, call)
    containers = {
        outer.kind
        for outer in found.values()
        if sum(inner.startswith(outer.path + ".") for inner in found) >= 2
    }
    blocks = {path: call for path, call in found.items() if call.kind not in containers}
    return [call for path, call in blocks.items() if not any(path.startswith(p + ".") for p in blocks)]


def _find_residual_module(trace: Trace, op: Operation) -> type | None:
    """Class of the innermost module with a convolution that reaches only one side of this addition."""
    if op.name != "add" or len(op.output_shape) != trace.rank or len(op.inputs) != 2:
        return None
    if op.input_shapes[0] != op.input_shapes[1]:
        return None
    one, other = (trace.convolutions[value] for value in op.inputs)
    return _find_innermost(trace, op, one ^ other)


def _find_concatenating_module(trace: Trace, op: Operation) -> type | None:
    """Class of the innermost module with a convolution around this concatenation of maps."""
    if op.name != "cat" or len(op.output_shape) != trace.rank:
        return None
    return _find_innermost(trace, op, trace.all_convolutions)


def _find_innermost(trace: Trace, op: Operation, convolutions: int) -> type | None:
    """Class of the innermost module around ``op`` in which one of the convolutions ran; never the network."""
    for call in trace.lineage(op.call):
        if call.parent is not None and _mask(call) & convolutions:
            return call.kind
    return None


def _mask(call: Call) -> int:
    """The bits of the operations that ran in a call."""
    return (1 << call.last) - (1 << call.first)


def _takes_image(trace: Trace, call: Call) -> bool:
    """Whether the network's first convolution runs in this call: the image holds no features yet."""
    convolutions = trace.all_convolutions
    return bool(convolutions & -convolutions & _mask(call))


def _find_plain_convolutions(trace: Trace) -> list[Call]:
    """All modules that are convolutions, but for classifiers (maps of one pixel); none in a transformer."""
    found: dict[str, Call] = {}
    if any(_ATTENTION.search(op.name) and len(op.output_shape) > 2 for op in trace.operations):
        return []
    for op in (op for op in trace.operations if op.convolves):
        call = trace.calls[op.call]
        if call.parent is not None and not _takes_image(trace, call) and math.prod(op.output_shape[-2:]) > 1:
            found.setdefault(call.path, call)
    return list(found.values())


# -------------------------------------------------------------------- where a block's residual branch begins


def _find_first_conv(trace: Trace, block: Call, *, parallel: bool = False) -> Call:
    """The convolution with which a block's residual branch begins.

    Of the convolutions that see the block's input with no other convolution between, it is the one from
    which the longest chain of convolutions leads on (a shortcut's projection is followed by none), then the
    one with the largest kernel (RepVGG). Those behind a pooling do not count if there are others.

    Args:
        parallel: the block concatenates its branches. Where several begin at its input, a module on one of
            them would leave the others blind, so the place is the block's own input (but for a block that
            takes a list of maps).
    """
    operations = range(block.first, block.last)
    starts = _find_starts(trace, operations)
    if not starts or (parallel and len(starts) > 1 and block.input_shape is not None):
        return block
    chains = _measure_chains(trace, operations)
    first = max(starts, key=lambda i: (chains[i], trace.operations[i].kernel_area, -i))
    return _find_host(trace, block, trace.calls[trace.operations[first].call])


def _find_starts(trace: Trace, operations: range) -> list[int]:
    """Convolutions that no other one precedes; those behind a pooling only if there are no others."""
    convolved: set[int] = set()
    pooled: set[int] = set()
    starts: list[int] = []
    for i in operations:
        op = trace.operations[i]
        if op.convolves and not convolved.intersection(op.inputs):
            starts.append(i)
        if op.convolves or convolved.intersection(op.inputs):
            convolved.update(op.outputs)
        if _POOLING.search(op.name) or pooled.intersection(op.inputs):
            pooled.update(op.outputs)
    return [i for i in starts if not pooled.intersection(trace.operations[i].inputs)] or starts


def _measure_chains(trace: Trace, operations: range) -> dict[int, int]:
    """For each operation, convolutions on the longest way from it (itself included) through the others."""
    ahead: dict[int, int] = {}
    chains: dict[int, int] = {}
    for i in reversed(operations):
        op = trace.operations[i]
        chains[i] = op.convolves + max((ahead.get(value, 0) for value in op.outputs), default=0)
        for value in op.inputs:
            ahead[value] = max(ahead.get(value, 0), chains[i])
    return chains


def find_branch_convs(trace: Trace, block: Block) -> list[str]:
    """Paths of the convolutions of a block's residual branch, from ``first_conv`` on, each fed by the one before.

    Convolutions that shrink the map below the block's own size, or see a mean of it, gate it
    (squeeze-and-excitation) and are left out, as are those that no ``nn.Conv2d`` or ``nn.Conv3d`` makes (a fixed
    blur) and everything beside the longest way. Where a block concatenates parallel branches, all are taken.
    """
    call = next(call for call in trace.calls if call.path == block.path)
    operations = range(call.first, call.last)
    if block.first_conv == block.path:
        convs = (trace.calls[trace.operations[i].call] for i in operations if trace.operations[i].convolves)
        return list(dict.fromkeys(call.path for call in convs))
    area = _measure_area(trace, call)
    starts = [i for i in operations if _runs_in(trace, i, block.first_conv) and trace.operations[i].convolves]
    chains = _measure_chains(trace, operations)
    fed: dict[int, set[int]] = {}  # for every value, the convolutions that reach it with none between
    feeds: dict[int, list[int]] = {}  # for every convolution, those that it feeds so
    for i in operations:
        op = trace.operations[i]
        before = set().union(*(fed.get(value, set()) for value in op.inputs))
        if op.convolves and math.prod(op.output_shape[-2:]) >= area:
            for one in before:
                feeds.setdefault(one, []).append(i)
        if _REDUCTION.search(op.name):
            before = set()
        fed.update(dict.fromkeys(op.outputs, {i} if op.convolves else before))
    chain = starts[-1:]
    while chain and (followers := feeds.get(chain[-1])):
        chain.append(max(followers, key=lambda i: (chains[i], -i)))
    behind = (trace.calls[trace.operations[i].call] for i in chain[1:])
    layers = (call.path for call in behind if issubclass(call.kind, (nn.Conv2d, nn.Conv3d)))
    return list(dict.fromkeys([block.first_conv, *layers]))


def _runs_in(trace: Trace, operation: int, path: str) -> bool:
    """Whether an operation ran within the module of this path."""
    return any(call.path == path for call in trace.lineage(trace.operations[operation].call))


def _find_host(trace: Trace, block: Call, conv: Call) -> Call:
    """The module that stands for a convolution: the one that splits channels for it, if there is one.

    MixNet's mixed convolution hands groups of channels to several convolutions; only together are they one.
    A convolution that the block's own ``forward`` computes has no module, so the block stands for it.
    """
    host = conv
    for outer in trace.lineage(conv.number):
        if outer is block:
            break
        if outer.input_shape and host.input_shape:
            _, channels, *size = host.input_shape
            if outer.input_shape[1] > channels and list(outer.input_shape[2:]) == size:
                host = outer
    return host
