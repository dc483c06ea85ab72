"""An answer as HTML: ranked labels, the frames that were sampled, and where the network looked.

Every text from outside is escaped; pictures are part of the text, so that no file is needed to show them.
"""

import html
import io
from collections.abc import Iterable, Sequence

from PIL import Image

from kinemix.app.answer import Reply
from kinemix.deploy.predict import Prediction
from kinemix.explain.filmstrip import spread_frames
from kinemix.explain.heatmap import enlarge, overlay_heat
from kinemix.explain.methods import METHODS
from kinemix.explain.page import to_data_url
from kinemix.types import Video

_SHOWN_FRAMES = 16
_LEAST_HEIGHT, _QUALITY = 112, 85
_SAME = "Backwards the answer is the same."

STYLE = """
.answer { color: var(--body-text-color); line-height: 1.45; overflow-wrap: anywhere; }
.answer h2 { margin: 0; font-size: 1.75rem; line-height: 1.2; }
.answer h2 small { font-size: 1.1rem; font-weight: 400; white-space: nowrap; }
.answer h3 { margin: 0 0 .4rem; font-size: 1rem; }
.answer .about, .answer .note, .answer caption, .answer .film span { font-size: .875rem; opacity: .85; }
.answer .about { margin: .25rem 0 1.25rem; }
.answer .directions { display: grid; gap: .5rem 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
.answer table { width: 100%; margin: 0 0 .75rem; font-variant-numeric: tabular-nums; }
.answer table, .answer table tr, .answer table tr > * { border: 0 !important; }
.answer caption { padding: 0; text-align: left; }
.answer tr > * { padding: .2rem 0; font-weight: 400; text-align: left; vertical-align: middle; }
.answer th { width: 45%; padding-right: .75rem; }
.answer:not(.several) tr:first-child > *, .answer tr.present > * { font-weight: 600; }
.answer td.score { width: 4.2rem; text-align: right; white-space: nowrap; }
.answer .bar { height: .7rem; border-radius: 2px; background: #0072b2; min-width: 2px; }
.answer .backwards .bar { background: #d55e00; }
.answer .verdict { margin: 0 0 1.5rem; }
.answer .film { display: grid; gap: .6rem .4rem; margin: .5rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(max(22%, 9rem), 1fr)); }
.answer .film li { margin: 0; padding: 0; list-style: none; }
.answer .film img { display: block; width: 100%; height: auto; margin: 0 0 3px; border-radius: 3px; }
.refusal { border-left: 4px solid #d55e00; padding: .6rem .9rem; background: var(--block-background-fill);
  color: var(--body-text-color); overflow-wrap: anywhere; }
.hint { color: var(--body-text-color); opacity: .85; }
"""


def render_reply(reply: Reply, *, clip: str, network: str) -> str:
    """An answer with its reasons.

    Args:
        reply: from :func:`kinemix.app.answer.answer_clip`.
        clip: name of its file.
        network: that answered.
    """
    several = any(one.present is not None for one in reply.predictions)
    parts = [
        f'<article class="answer{" several" if several else ""}" aria-label="answer">',
        _render_headline(reply, several=several),
        f'<p class="about">{_escape(clip)} &middot; {_escape(network)} &middot; {_escape(reply.protocol)}</p>',
        '<div class="directions">',
        _render_direction("As it was filmed", "forwards", reply.predictions),
        _render_direction("Played backwards", "backwards", reply.backwards),
        "</div>",
        f'<p class="verdict">{_compare_directions(reply, several=several)}</p>',
        _render_film(reply),
        "</article>",
    ]
    return "\n".join(parts)


def render_refusal(reason: str) -> str:
    """Why there is no answer."""
    return f'<p class="refusal" role="alert">{_escape(reason)}</p>'


def render_hint(text: str) -> str:
    """What stands in the place of an answer that nobody has asked for."""
    return f'<p class="hint">{_escape(text)}</p>'


def encode_picture(frame: Video) -> bytes:
    """One frame ``3 H W`` as a WebP file; a small one is enlarged, so that its pixels stay sharp."""
    pixels = enlarge(frame[None], _LEAST_HEIGHT)[0].permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def _render_headline(reply: Reply, *, several: bool) -> str:
    if several:
        found = [one for one in reply.predictions if one.present]
        return f"<h2>{_list_labels(found)}</h2>"
    best = _pick_leading(reply.predictions, reply.leading)
    return f"<h2>{_render_label(best.label)} <small>{best.score:.1%}</small></h2>"


def _render_direction(title: str, kind: str, predictions: Sequence[Prediction]) -> str:
    tasks = dict.fromkeys(one.task for one in predictions)
    tables = [_render_ranking(task, [one for one in predictions if one.task == task]) for task in tasks]
    return f'<section class="{kind}"><h3>{title}</h3>{"".join(tables)}</section>'


def _render_ranking(task: str | None, predictions: Iterable[Prediction]) -> str:
    caption = "" if task is None else f"<caption>{_escape(task)}</caption>"
    return f"<table>{caption}<tbody>{''.join(map(_render_row, predictions))}</tbody></table>"


def _render_row(one: Prediction) -> str:
    present = ' class="present"' if one.present else ""
    mark = ' <span aria-label="present">&#10003;</span>' if one.present else ""
    return (
        f'<tr{present}><th scope="row">{_render_label(one.label)}{mark}</th>'
        f'<td><div class="bar" style="width:{100 * one.score:.1f}%"></div></td>'
        f'<td class="score">{one.score:.1%}</td></tr>'
    )


def _compare_directions(reply: Reply, *, several: bool) -> str:
    """What playing the clip backwards changes, in a sentence."""
    if several:
        sets = [{one.label for one in side if one.present} for side in (reply.predictions, reply.backwards)]
        if sets[0] == sets[1]:
            return _SAME
        found = [one for one in reply.backwards if one.present]
        return f"Backwards it finds: <b>{_list_labels(found)}</b>."
    before, after = (_pick_leading(side, reply.leading) for side in (reply.predictions, reply.backwards))
    if before.label == after.label:
        return _SAME
    return f"Backwards the answer is another: <b>{_render_label(after.label)}</b>."


def _pick_leading(predictions: Sequence[Prediction], leading: str | None) -> Prediction:
    """The best answer, of several tasks to the leading one."""
    return next(one for one in predictions if one.task == leading)


def _list_labels(predictions: Sequence[Prediction]) -> str:
    return ", ".join(_render_label(one.label) for one in predictions) or "no class is present"


def _render_film(reply: Reply) -> str:
    """The frames in the order of time; below each of them where the network looked."""
    view = reply.view
    shown = spread_frames(len(view.frames), min(_SHOWN_FRAMES, len(view.frames)))
    heat = None if reply.saliency is None else overlay_heat(view.frames, reply.saliency.heat[0].cpu())
    cells = []
    for place in shown:
        number = view.indices[place] + 1
        pictures = _render_picture(view.frames[place], f"frame {number}")
        if heat is not None:
            pictures += _render_picture(heat[place], f"saliency in frame {number}")
        cells.append(f"<li>{pictures}<span>frame {number}</span></li>")
    return (
        "<section><h3>What it looked at</h3>"
        f'<p class="note">{_describe_film(reply, len(shown))}</p>'
        f'<ol class="film">{"".join(cells)}</ol></section>'
    )


def _describe_film(reply: Reply, shown: int) -> str:
    count = len(reply.view.frames)
    some = f"{shown} of the {count} frames" if shown < count else f"The {count} frames"
    sampled = f"{some} that were sampled." if count > 1 else "The frame that was sampled."
    if reply.saliency is None:
        return f"{sampled} No saliency: {_escape(reply.reason)}."
    label = _render_label(reply.label)
    return (
        f"{sampled} Below each, what speaks for <b>{label}</b>. {_escape(METHODS[reply.saliency.way].about)}"
    )


def _render_picture(frame: Video, text: str) -> str:
    return f'<img alt="{text}" src="{to_data_url(encode_picture(frame), "image/webp")}">'


def _render_label(label: str) -> str:
    """A class name, which may be broken behind its underscores."""
    return _escape(label).replace("_", "_<wbr>")


def _escape(text: str) -> str:
    return html.escape(text)
