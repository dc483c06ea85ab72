"""Films of the clips of a run: what the network sees, and below it where it found its answer."""

import html

from kinemix.engine.tested_run import TestedRun, TestedVideos
from kinemix.errors import UnreadableVideoError
from kinemix.explain.filmstrip import spread_frames
from kinemix.explain.heatmap import overlay_heat
from kinemix.explain.report.clips import Clip, encode_strip, render_clip
from kinemix.explain.saliency import DoesNotApplyError, compute_saliency
from kinemix.explain.view import View, sample_view
from kinemix.models.checkpoint import load_checkpoint
from kinemix.types import Video

_FRAMES = 8


class FilmMaker:
    """Makes films of a run's clips.

    Args:
        run: with its tests.
        videos: of them.

    Attributes:
        reason: why there is no heat below the frames, where there is none.
    """

    def __init__(self, run: TestedRun, videos: TestedVideos) -> None:
        self.model, _ = load_checkpoint(run.folder)
        self.run, self.videos, self.reason = run, videos, ""
        if run.space != run.scores.space:  # its classes are some of those that the network answers
            self.reason = "Saliency is not shown for one of several questions."

    def render(self, clip: Clip) -> str:
        """The film with its answers, as HTML; a line that says why where the video cannot be read."""
        scores = self.run.scores
        try:
            with self.videos.open(scores.ids[clip.row]) as reader:
                view = sample_view(reader, self.run.protocol)
        except UnreadableVideoError as error:
            return f"<p>{html.escape(str(error))}</p>"
        shown = spread_frames(len(view.frames), min(_FRAMES, len(view.frames)))
        films = [view.frames]
        heat = self._find_heat(view, int(scores.logits[clip.row].argmax()))
        if heat is not None:
            films.append(heat)
        strip = encode_strip(*(film[shown] for film in films))
        return render_clip(scores, clip, strip, num_frames=len(shown))

    def _find_heat(self, view: View, answer: int) -> Video | None:
        """The frames with what speaks for the answer over them."""
        if self.reason:
            return None
        try:
            heat = compute_saliency(self.model, view.normalize(), [answer]).heat[0]
        except DoesNotApplyError as error:
            self.reason = f"No saliency: {error}."
            return None
        return overlay_heat(view.frames, heat)
