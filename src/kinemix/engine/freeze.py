"""What does not learn: stages, batch normalisation, and whatever has a learning rate of zero."""

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinemix.engine.optim import check_patterns, find_scale
from kinemix.errors import ConfigError
from kinemix.models.video import VideoModel


def freeze_(
    model: VideoModel,
    *,
    batch_norm: str = "learns",
    frozen_stages: int | None = None,
    lr_scales: Mapping[str, float] | None = None,
) -> list[nn.Module]:
    """Take the gradient from the parameters that shall stay as they are.

    Args:
        model: changed in place.
        batch_norm: ``learns``; ``partial`` keeps mean and variance of all layers but the first; ``first``
            keeps their scale and shift as well, so that the first alone learns; ``fixed`` keeps all of all.
        frozen_stages: the stem and so many stages of blocks stay; 0 the stem alone, ``None`` nothing. What a temporal
            module adds to them learns: beside layers that were learned elsewhere it may have just begun.
        lr_scales: parameters whose factor is 0 stay.

    Returns:
        The modules that are to be in evaluation mode while the others train, each for itself, not what is within.

    Raises:
        ConfigError: the network has fewer stages; a pattern matches nothing; nothing is left to learn.
    """
    lr_scales = lr_scales or {}
    check_patterns(lr_scales, [path for path, _ in model.named_parameters()])
    for path, parameter in model.named_parameters():
        if find_scale(path, lr_scales) == 0:
            parameter.requires_grad_(False)
    resting = [] if frozen_stages is None else list(_find_stages(model, frozen_stages))
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = {"learns": [], "fixed": norms}.get(batch_norm, norms[1:])
    for module in (*resting, *(kept if batch_norm in ("first", "fixed") else [])):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("optim: every parameter is frozen, and nothing is left to learn")
    return [*resting, *kept]


def _find_stages(model: VideoModel, count: int) -> Iterator[nn.Module]:
    """The modules of the stem and the first stages, without the temporal ones that were put beside them."""
    stages = model.stages
    most = max(stages.values(), default=0)
    if count > most:
        raise ConfigError(
            f"optim.frozen_stages is {count}: {model.description.get('name')} has {most} stages"
        )
    added = [module for module in model.temporal_modules().values() if module.site.place != "instead"]
    seen = {part for module in added for part in module.modules()}
    for path, stage in stages.items():
        if stage <= count:
            for module in model.backbone.get_submodule(path).modules():
                if module not in seen:
                    seen.add(module)
                    yield module
