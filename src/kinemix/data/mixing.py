"""Mixup and CutMix for clips: two samples in one, and their labels in the same shares.

torchvision draws and mixes; every frame of a clip is mixed alike. What is drawn depends on the seed, the epoch and
who is in the batch, so a run that is resumed mixes what one that was not would have mixed.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from kinemix.data.dataset import Batch, mix_seed
from kinemix.label_space import LabelSpace


class ClipMixer:
    """Mixes each clip of a batch with its neighbour.

    Args:
        mixup: both of the Beta distribution's parameters, from which the share of the first clip is drawn; 0 for
            no mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization").
        cutmix: likewise, for the share of the picture that the first clip keeps around a rectangle of the second
            (Yun et al., "CutMix"). With both, each batch draws one of the two.
        share: of the batches that are mixed.
        space: what the labels are about.
        seed: of everything drawn.
    """

    def __init__(self, *, mixup: float, cutmix: float, share: float, space: LabelSpace, seed: int) -> None:
        kinds = [kind(alpha=alpha) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha > 0]
        self._mix = v2.RandomApply([v2.RandomChoice(kinds)], p=share)
        self._space, self._seed = space, seed

    def __call__(self, batch: Batch, *, epoch: int) -> Batch:
        """The batch with mixed clips, and with soft targets ``B K`` as its labels.

        Args:
            batch: of training clips ``B T C H W``.
            epoch: of the run.
        """
        clips, labels = batch.clips, soften(batch.labels, self._space)
        seed = mix_seed(self._seed, epoch, *batch.indices.tolist())
        # torchvision draws from torch's global generator: lend it a seed of ours and put everything back.
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            mixed, labels = self._mix(tv_tensors.Video(clips), labels)
        return replace(batch, clips=mixed.as_subclass(Tensor), labels=labels)


def soften(labels: Tensor, space: LabelSpace) -> Float[Tensor, "B K"]:
    """Labels as a batch has them, as targets: 1 for every class that is right."""
    if space.multilabel:
        return labels.float()
    if not space.tasks:
        return F.one_hot(labels, len(space.class_names)).float()
    columns = zip(labels.unbind(dim=1), space.tasks.values(), strict=True)
    return torch.cat([F.one_hot(column, count) for column, count in columns], dim=1).float()
