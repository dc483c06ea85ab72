"""Every tested clip in a table that can be searched and sorted."""

from collections.abc import Sequence
from os.path import commonpath, isabs
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kinemix.evaluate.scores import Scores
from kinemix.explain.report.confusion import embed_json


def shorten_paths(ids: Sequence[str]) -> list[str]:
    """Names of samples without the folder that all of them lie in."""
    folders = {str(Path(name).parent) for name in ids}
    common = Path(commonpath(folders)) if folders and all(map(isabs, folders)) else Path()
    return [str(Path(name).relative_to(common)) for name in ids]


def render_samples(scores: Scores, probabilities: NDArray[Any]) -> str:
    """The table with its controls as HTML; its rows stand in JSON and are written by the page's script.

    Args:
        scores: of the test.
        probabilities: ``N K``.
    """
    answers = scores.logits.argmax(axis=1)
    rows = [
        [int(label), int(answer), round(float(own[label]), 4), name]
        for label, answer, own, name in zip(
            scores.labels, answers, probabilities, shorten_paths(scores.ids), strict=True
        )
    ]
    data = embed_json({"names": scores.class_names, "rows": rows})
    heads = "".join(
        f'<th scope="col"><button type="button">{name}</button></th>'
        for name in ("class", "answer", "probability of the class", "clip")
    )
    return f"""<div class="samples">
<div class="controls"><label>Search <input type="search" class="search"></label>
<label>Show <select class="only"><option value="all">all</option><option value="wrong">answered wrong</option>
<option value="right">answered right</option></select></label></div>
<p class="found" aria-live="polite"></p>
<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>
<p><button type="button" class="more">More</button></p>
<script type="application/json">{data}</script></div>"""
