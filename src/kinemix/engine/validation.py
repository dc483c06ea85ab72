"""Validation: the held-out samples through the network, on all processes together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from kinemix.data.loader import TestLoader
from kinemix.engine.parts import Parts, find_mirrors
from kinemix.engine.processes import any_process, do_all, gather, share_statistics_
from kinemix.evaluate.evaluator import evaluate
from kinemix.evaluate.scores import Scores, merge_scores
from kinemix.models.sharding import is_sharded
from kinemix.models.video import VideoModel


def validate(
    fabric: Fabric, parts: Parts, loader: TestLoader, *, on_batch: Callable[[int], object]
) -> Scores:
    """Scores of the held-out samples, each tested by one process, the same on all of them.

    Args:
        fabric: launched.
        parts: of the run.
        loader: of the held-out samples of this process.
        on_batch: called with the number of videos of every batch that is done; may raise
            :class:`kinemix.engine.interrupt.Interrupted`.

    Raises:
        KinemixError: in all processes, if one of them cannot go on.
        Interrupted: likewise.
    """
    # What is tested is what will be saved: the first process's network.
    share_statistics_(fabric, parts.model, parts.answering)

    def score() -> Scores:
        with _open_network(fabric, parts) as network, fabric.autocast():
            return evaluate(
                network,
                loader,
                ids=[sample.name for sample in parts.splits.val.samples],
                space=parts.splits.space,
                protocol=parts.config.protocol,
                mirrored_labels=find_mirrors(parts.config, parts.splits.space),
                description=parts.model.description,
                device=fabric.device,
                on_batch=on_batch,
            )

    return merge_scores(gather(fabric, do_all(fabric, score)))


@contextmanager
def _open_network(fabric: Fabric, parts: Parts) -> Iterator[nn.Module]:
    """The network as clips can be shown to it here, whatever number of them the other processes have."""
    if is_sharded(parts.answering):
        in_step = _InStep(fabric, parts.answering)
        try:
            yield in_step
        finally:
            in_step.keep_up()
    elif fabric.world_size > 1 or parts.average is not None:
        yield parts.answering  # the one for training waits for the other processes whenever it runs
    else:
        yield parts.network


class _InStep(nn.Module):
    """A sharded network, which all processes must run as often: who is done runs it for the others.

    Args:
        fabric: launched.
        network: sharded.
    """

    def __init__(self, fabric: Fabric, network: VideoModel) -> None:
        super().__init__()
        self._fabric, self.network = fabric, network
        self.training = network.training

    def forward(self, clips: Tensor) -> Tensor:
        any_process(self._fabric, True)
        return self._run(clips)

    def keep_up(self) -> None:
        """Run along with the other processes until all are done."""
        spec = self.network.input_spec
        shape = (1, self.network.num_frames, spec.channels, *spec.size)
        self.network.eval()
        while any_process(self._fabric, False):
            self._run(torch.zeros(shape, device=self._fabric.device))
        self.network.train(self.training)

    def _run(self, clips: Tensor) -> Tensor:
        # In inference mode the gathered weights could not be trained with again.
        with torch.inference_mode(False), torch.no_grad():
            return self.network(clips)
