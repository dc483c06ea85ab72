"""What one network says of one clip: its answers, forwards and backwards, and what it looked at."""

from dataclasses import dataclass

from kinemix.data.remembered import RememberedFrames
from kinemix.deploy.predict import Prediction, Recogniser
from kinemix.evaluate.protocol import describe_protocol
from kinemix.explain.evidence import find_answer
from kinemix.explain.saliency import DoesNotApplyError, Saliency, compute_saliency
from kinemix.explain.view import View, read_view


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a clip, and how it came about.

    Attributes:
        predictions: as :meth:`kinemix.deploy.predict.Recogniser.predict` ranks them.
        backwards: the same of the clip with its frames reversed.
        view: the frames that were looked at: of several views of the video, the middle one.
        label: the class that ``saliency`` speaks for: the answer, of several tasks the leading one's.
        saliency: ``1 T H W`` of the view, or ``None`` where no way of finding it fits the network.
        reason: why not.
        leading: the task of ``label``, where there are several.
        protocol: how the video was looked at, in words.
    """

    predictions: tuple[Prediction, ...]
    backwards: tuple[Prediction, ...]
    view: View
    label: str
    saliency: Saliency | None
    reason: str = ""
    leading: str | None = None
    protocol: str = ""


def answer_clip(
    recogniser: Recogniser, frames: RememberedFrames, *, top: int = 5, threshold: float = 0.5
) -> Reply:
    """One network's answer to a clip, with its reasons.

    Args:
        recogniser: the network.
        frames: what it remembered of the clip.
        top: answers of each task.
        threshold: score from which a class is present, where a clip may have several.

    Raises:
        KinemixError: its protocol cannot be used (ten crops of classes without a mirror image), or a logit is not
            a finite number.
    """
    forwards = recogniser.score(frames)
    backwards = recogniser.score(frames, order="reverse")
    view = read_view(recogniser, frames)
    answer = find_answer(forwards, recogniser.space)
    saliency, reason = None, ""
    try:
        saliency = compute_saliency(recogniser.model, view.normalize().to(recogniser.device), [answer])
    except DoesNotApplyError as error:
        reason = str(error)
    return Reply(
        predictions=tuple(recogniser.rank(forwards, top, threshold)),
        backwards=tuple(recogniser.rank(backwards, top, threshold)),
        view=view,
        label=recogniser.class_names[answer],
        saliency=saliency,
        reason=reason,
        leading=recogniser.space.leading,
        protocol=describe_protocol(recogniser.protocol),
    )
