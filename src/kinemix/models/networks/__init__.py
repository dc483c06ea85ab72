"""Networks of our own: the papers' backbones that no library has, one file each.

A file here defines plain networks, ``N C H W`` to logits (image networks) or ``N C T H W`` to logits (clip
networks), and says in ``NETWORKS`` by which names they are made. :mod:`kinemix.models.backbones` finds them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from torch import Tensor, nn

from kinemix.config import InputSpec
from kinemix.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of our own.

    Attributes:
        make: ``make(num_classes=, in_channels=, dropout=, **options)`` gives the network; the options are what
            ``backbone_options`` may hold.
        input_spec: what it wants to see.
        takes_clips: whether it takes ``N C T H W`` instead of ``N C H W``.
        translate: gives the state dictionary of the published weights, as people have them on disk, the names
            (and shapes) of this network; ``None`` if nothing is published.
        published: name of torchvision's weights that ``translate`` takes and that can be fetched
            (``Inception_V3_Weights.IMAGENET1K_V1``); ``None`` if a file on disk must be named.
    """

    make: Callable[..., nn.Module]
    input_spec: InputSpec
    takes_clips: bool = False
    translate: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    published: str | None = None


def narrow(channels: int, width: float, *, multiple: int = 4) -> int:
    """So many times the channels, as a multiple that temporal modules can share out; as they are for a width of 1.

    Raises:
        ConfigError: a width of 0 or less.
    """
    if width <= 0:
        raise ConfigError(f"width is {width}: it is a factor on the channels, above 0")
    return channels if width == 1 else max(multiple, round(channels * width / multiple) * multiple)


@cache
def find_networks() -> dict[str, Network]:
    """All networks of the files in this folder, by name."""
    found: dict[str, Network] = {}
    for file in iter_modules(__path__):
        found |= getattr(import_module(f"{__name__}.{file.name}"), "NETWORKS", {})
    return found
