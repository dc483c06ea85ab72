"""Putting temporal modules into a backbone: the plan (sites, from an :class:`Insertion`) and the surgery."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from kinemix.errors import ConfigError
from kinemix.models.blocks import Block, find_blocks
from kinemix.models.trace import Call, Trace, trace_network
from kinemix.models.video import Fold, Inserted
from kinemix.temporal.base import Insertion, Site, TemporalModule

MANY_BLOCKS = 23
"""Where a stage has so many blocks, ``Insertion(every=None)`` takes every second one (TSM on ResNet-101)."""


def find_sites(
    backbone: nn.Module,
    insertion: Insertion,
    *,
    input_size: tuple[int, int],
    num_frames: int,
    channels: int = 3,
) -> list[Site]:
    """All places that an insertion names in a backbone, in the order in which frames pass them.

    Args:
        backbone: takes ``N x channels x H x W``; it is neither run for real nor changed.
        insertion: what to look for.
        input_size: height and width of the frames, from which the sites' map sizes follow.
        num_frames: frames a clip, noted in the sites.
        channels: of the frames.

    Raises:
        ConfigError: there is no such place, or what passes there is not one map.
    """
    return find_sites_in_trace(
        trace_network(backbone, channels=channels, input_size=input_size), insertion, num_frames=num_frames
    )


def find_sites_in_trace(trace: Trace, insertion: Insertion, *, num_frames: int) -> list[Site]:
    """:func:`find_sites` for a dry run that has been made already."""
    blocks = find_blocks(trace)
    calls: dict[str, Call] = {}
    for call in trace.calls[1:]:
        calls.setdefault(call.path, call)
    chosen = list(_choose_blocks(blocks, insertion))
    hosts = {path: block for block in chosen for path in _find_hosts(block, insertion, calls)}
    if _is_global(insertion) and insertion.stages is None and insertion.blocks is None:
        # A module that stands in no block, such as the stem, counts as a block of stage 1.
        outside = [path for path in calls if not any(_is_within(path, block) for block in blocks)]
        hosts |= {
            path: Block(path=path, first_conv=path, stage=1, index=0)
            for path in outside
            if fnmatchcase(path, insertion.at)
        }
    if not hosts:
        raise ConfigError(_explain_nothing(trace, insertion, blocks))
    sites = [_make_site(calls[path], insertion, block, num_frames) for path, block in hosts.items()]
    return sorted(sites, key=lambda site: calls[site.path].number)


def insert_(
    backbone: nn.Module,
    sites: Sequence[Site],
    make_module: Callable[[Site], TemporalModule],
    fold: Fold,
) -> None:
    """Put a temporal module at every site; the hosts keep their weights.

    Args:
        backbone: changed in place.
        sites: from :func:`find_sites`.
        make_module: makes the temporal module for a site.
        fold: the adapter that the network opens for each clip.
    """
    # Parents are looked up before anything changes: a host inside another host gets a longer path.
    parents = [backbone.get_submodule(site.path.rpartition(".")[0]) for site in sites]
    for site, parent in zip(sites, parents, strict=True):
        name = site.path.rpartition(".")[2]
        host = getattr(parent, name)
        inserted = Inserted(make_module(site), host, place=site.place, fold=fold)
        inserted.train(host.training)
        setattr(parent, name, inserted)


def _choose_blocks(blocks: Sequence[Block], insertion: Insertion) -> Iterator[Block]:
    sizes = Counter(block.stage for block in blocks)
    every = insertion.every
    if every is None:
        every = 2 if max(sizes.values(), default=0) >= MANY_BLOCKS else 1
    if every < 1:
        raise ConfigError(f"every is {every}: it must be 1 or more, or None for TSM's rule")
    for block in blocks:
        in_stage = insertion.stages is None or block.stage in insertion.stages
        from_end = block.index - sizes[block.stage]
        listed = insertion.blocks is None or {block.index, from_end} & set(insertion.blocks)
        if in_stage and listed and block.index % every == 0:
            yield block


def _find_hosts(block: Block, insertion: Insertion, calls: dict[str, Call]) -> list[str]:
    """Paths of the modules next to which a block gets temporal modules."""
    if insertion.at == "first_conv":
        return [block.first_conv]
    if insertion.at == "block":
        # A DenseNet layer takes a list of maps: nothing can stand before it but its first convolution.
        takes_no_map = insertion.place == "before" and calls[block.path].input_shape is None
        return [block.first_conv if takes_no_map else block.path]
    pattern = insertion.at.replace("{block}", block.path)
    found = [path for path in calls if fnmatchcase(path, pattern)]
    return [path for path in found if _is_within(path, block)] if _is_global(insertion) else found


def _is_global(insertion: Insertion) -> bool:
    """Whether an insertion is a pattern over all paths, which names no block."""
    return insertion.at not in ("block", "first_conv") and "{block}" not in insertion.at


def _is_within(path: str, block: Block) -> bool:
    return f"{path}.".startswith(f"{block.path}.")


def _make_site(call: Call, insertion: Insertion, block: Block, num_frames: int) -> Site:
    shape = call.input_shape if insertion.place == "before" else call.output_shape
    if shape is None:
        verb = "take" if insertion.place == "before" else "give"
        raise ConfigError(
            f"{insertion} finds {call.path!r} ({call.kind.__name__}), which does not {verb} one map N C H W: "
            "choose another module, or the other place"
        )
    return Site(
        path=call.path,
        place=insertion.place,
        channels=shape[1],
        height=shape[2],
        width=shape[3],
        num_frames=num_frames,
        stage=block.stage,
        block=block.index,
    )


def _explain_nothing(trace: Trace, insertion: Insertion, blocks: Sequence[Block]) -> str:
    name = trace.calls[0].kind.__name__
    if not blocks:
        return (
            f"no place for {insertion} in {name}: it has no block (no module adds or concatenates maps that "
            "it convolved, and there is no convolution after the first); such modules go into CNNs"
        )
    sizes = Counter(block.stage for block in blocks)
    return (
        f"no place for {insertion} in {name}, whose stages 1 to {len(sizes)} have "
        f"{[sizes[stage] for stage in sorted(sizes)]} blocks, such as {blocks[0].path!r}: choose among these"
    )
