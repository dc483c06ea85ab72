"""Putting temporal modules into a backbone: the plan (sites, from an :class:`Insertion`) and the surgery."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase

from torch import nn

from kinemix.errors import ConfigError
from kinemix.models.blocks import Block, find_blocks, find_branch_convs
from kinemix.models.trace import Call, Trace, trace_network
from kinemix.models.video import Inserted, Layout
from kinemix.temporal.base import Convolution, Insertion, Site, TemporalModule

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
    """All places that an insertion names in an image network, in the order in which frames pass them.

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
        backbone,
        trace_network(backbone, channels=channels, input_size=input_size),
        insertion,
        num_frames=num_frames,
    )


def find_sites_in_trace(
    backbone: nn.Module, trace: Trace, insertion: Insertion, *, num_frames: int
) -> list[Site]:
    """:func:`find_sites` for a dry run that has been made already, of an image or clip network."""
    blocks = find_blocks(trace)
    calls: dict[str, Call] = {}
    for call in trace.calls[1:]:
        calls.setdefault(call.path, call)
    chosen = list(_choose_blocks(blocks, insertion))
    hosts = {path: block for block in chosen for path in _find_hosts(trace, block, insertion, calls)}
    if _is_global(insertion) and insertion.stages is None and insertion.blocks is None:
        # A module that stands in no block, such as the stem, counts as a block of stage 1.
        outside = [path for path in calls if not any(_is_within(path, block) for block in blocks)]
        hosts |= {
            path: Block(path=path, first_conv=path, stage=1, index=0)
            for path in outside
            if any(fnmatchcase(path, pattern) for pattern in _list_patterns(insertion))
        }
    if not hosts:
        raise ConfigError(_explain_nothing(trace, insertion, blocks))
    last = {block.path: path for path, block in hosts.items()}
    sites = [
        _make_site(
            calls[path],
            insertion,
            block,
            num_frames,
            convolution=_describe_convolution(
                backbone.get_submodule(path), path, insertion, is_last=path in last.values()
            )
            if insertion.place == "instead"
            else None,
        )
        for path, block in hosts.items()
    ]
    return sorted(sites, key=lambda site: calls[site.path].number)


def insert_(
    backbone: nn.Module,
    sites: Sequence[Site],
    make_module: Callable[[Site], TemporalModule],
    layout: Layout,
) -> None:
    """Put a temporal module at every site; the hosts keep their weights, or hand them over.

    Args:
        backbone: changed in place.
        sites: from :func:`find_sites`.
        make_module: makes the temporal module for a site.
        layout: the adapter that the network opens for each clip.
    """
    # Parents are looked up before anything changes: a host inside another host gets a longer path.
    parents = [backbone.get_submodule(site.path.rpartition(".")[0]) for site in sites]
    for site, parent in zip(sites, parents, strict=True):
        name = site.path.rpartition(".")[2]
        host = getattr(parent, name)
        temporal = make_module(site)
        if site.place == "instead":
            temporal.take_over_(host)
        inserted = Inserted(temporal, host, place=site.place, layout=layout)
        inserted.train(host.training)
        setattr(parent, name, inserted)


def _choose_blocks(blocks: Sequence[Block], insertion: Insertion) -> Iterator[Block]:
    sizes = Counter(block.stage for block in blocks)
    every = insertion.every
    if every is None:
        every = 2 if max(sizes.values(), default=0) >= MANY_BLOCKS else 1
    if every < 1:
        raise ConfigError(f"every is {every}: it must be 1 or more, or None for TSM's rule")
    named: dict[int, list[Block]] = {}
    for block in blocks:
        in_stage = insertion.stages is None or block.stage in insertion.stages
        from_end = block.index - sizes[block.stage]
        listed = insertion.blocks is None or {block.index, from_end} & set(insertion.blocks)
        if in_stage and listed and block.index % every == 0:
            named.setdefault(block.stage, []).append(block)
    for found in named.values():
        yield from found if insertion.num_blocks is None else _space_evenly(found, insertion.num_blocks)


def _space_evenly(blocks: Sequence[Block], num_blocks: tuple[int, int]) -> list[Block]:
    """As many of a stage's blocks as are wanted, at equal distances around the middle.

    Three of six are the 1st, 3rd and 5th, and three of 23 the 6th, 12th and 18th, as in CTM's networks.
    """
    fewest, most = num_blocks
    count = min(most, len(blocks))
    if count < max(fewest, 1):
        raise ConfigError(
            f"{fewest} blocks are to be used in stage {blocks[0].stage}, which has {len(blocks)}: ask for fewer"
        )
    ends, gaps = len(blocks) - 1, max(count - 1, 1)
    step = max(1, min((2 * len(blocks) + count + 1) // (2 * count + 2), ends // gaps))
    first = (ends - step * (count - 1)) // 2
    return [blocks[first + step * i] for i in range(count)]


def _find_hosts(trace: Trace, block: Block, insertion: Insertion, calls: dict[str, Call]) -> list[str]:
    """Paths of the modules next to which a block gets temporal modules."""
    if insertion.at == "first_conv":
        return [block.first_conv]
    if insertion.at == "convs":
        return find_branch_convs(trace, block)
    if insertion.at == "block":
        # A DenseNet layer takes a list of maps: nothing can stand before it but its first convolution.
        takes_no_map = insertion.place == "before" and calls[block.path].input_shape is None
        return [block.first_conv if takes_no_map else block.path]
    patterns = [pattern.replace("{block}", block.path) for pattern in _list_patterns(insertion)]
    found = [path for path in calls if any(fnmatchcase(path, pattern) for pattern in patterns)]
    return [path for path in found if _is_within(path, block)] if _is_global(insertion) else found


def _list_patterns(insertion: Insertion) -> tuple[str, ...]:
    return (insertion.at,) if isinstance(insertion.at, str) else insertion.at


def _is_global(insertion: Insertion) -> bool:
    """Whether an insertion is made of patterns over all paths, which name no block."""
    if insertion.at in ("block", "first_conv", "convs"):
        return False
    return not any("{block}" in pattern for pattern in _list_patterns(insertion))


def _is_within(path: str, block: Block) -> bool:
    return f"{path}.".startswith(f"{block.path}.")


def _describe_convolution(host: nn.Module, path: str, insertion: Insertion, *, is_last: bool) -> Convolution:
    """What a module that stands in for a convolution has to know of it."""
    beside = {"at": insertion.at, "place": "before"}
    if not isinstance(host, (nn.Conv2d, nn.Conv3d)):
        raise ConfigError(
            f"{path!r} is no convolution (it is a {type(host).__name__}), and only one can be replaced: "
            f"choose another module, or let it stand before with placement={beside}"
        )
    kind = nn.Conv2d if isinstance(host, nn.Conv2d) else nn.Conv3d
    computes_more = (
        type(host).forward is not kind.forward or type(host)._conv_forward is not kind._conv_forward
    )
    if computes_more or isinstance(host.padding, str) or host.padding_mode != "zeros":
        # A subclass may pad or normalise by itself; what stands in for it could not know.
        raise ConfigError(
            f"{path!r} ({type(host).__name__}) is more than torch's own convolution with a fixed padding by "
            f"zeros: it cannot be replaced; the module can stand before it with placement={beside}"
        )
    flat = isinstance(host, nn.Conv2d)

    def along_clip(values: Sequence[int], time: int) -> tuple[int, int, int]:
        first, *rest = [time, *values] if flat else values
        return (first, rest[0], rest[1])

    return Convolution(
        in_channels=host.in_channels,
        out_channels=host.out_channels,
        kernel_size=along_clip(host.kernel_size, 1),
        stride=along_clip(host.stride, 1),
        padding=along_clip(host.padding, 0),
        dilation=along_clip(host.dilation, 1),
        groups=host.groups,
        bias=host.bias is not None,
        is_last=is_last,
        is_flat=flat,
    )


def _make_site(
    call: Call, insertion: Insertion, block: Block, num_frames: int, *, convolution: Convolution | None
) -> Site:
    shape = call.output_shape if insertion.place == "after" else call.input_shape
    if shape is None:
        verb = "give" if insertion.place == "after" else "take"
        raise ConfigError(
            f"{insertion} finds {call.path!r} ({call.kind.__name__}), which does not {verb} one map N C H W: "
            "choose another module, or another place"
        )
    return Site(
        path=call.path,
        place=insertion.place,
        channels=shape[1],
        height=shape[-2],
        width=shape[-1],
        num_frames=num_frames if len(shape) == 4 else shape[2],
        stage=block.stage,
        block=block.index,
        convolution=convolution,
    )


def _explain_nothing(trace: Trace, insertion: Insertion, blocks: Sequence[Block]) -> str:
    told = f"no place for a module {_describe(insertion)} in {trace.calls[0].kind.__name__}"
    if not blocks:
        return (
            f"{told}: it has no block (no module adds or concatenates maps that it convolved, nor is it a plain "
            "chain of convolutions); such modules go into CNNs"
        )
    sizes = Counter(block.stage for block in blocks)
    return (
        f"{told}, whose stages 1 to {len(sizes)} have {[sizes[stage] for stage in sorted(sizes)]} blocks, "
        f"such as {blocks[0].path!r}: choose among these"
    )


def _describe(insertion: Insertion) -> str:
    """What an insertion asks for, as its options are written; what it leaves open is not mentioned."""
    default = Insertion(at=insertion.at, place=insertion.place)
    asked = {field.name: getattr(insertion, field.name) for field in fields(insertion)}
    narrowed = [f"{name} {value}" for name, value in asked.items() if value != getattr(default, name)]
    return ", ".join([f"{insertion.place} {' or '.join(_list_patterns(insertion))}", *narrowed])
