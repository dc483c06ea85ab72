"""The confusion matrix as something to search in: its data and its controls on the page."""

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinemix.evaluate.confusion import list_confusions, order_by_confusion


def describe_confusion(confusion: NDArray[np.integer], class_names: Sequence[str]) -> dict[str, Any]:
    """What the page's script draws: names, samples of each class, entries above 0, and the order by confusion."""
    rows, columns = confusion.nonzero()
    return {
        "names": list(class_names),
        "counts": confusion.sum(axis=1).tolist(),
        "entries": [[int(r), int(c), int(confusion[r, c])] for r, c in zip(rows, columns, strict=True)],
        "clusters": order_by_confusion(confusion),
    }


def render_confusion(confusion: NDArray[np.integer], class_names: Sequence[str], *, name: str) -> str:
    """The matrix with its controls, and its commonest mistakes as a list, as HTML.

    Args:
        confusion: counts.
        class_names: K names.
        name: unique on the page.
    """
    data = embed_json(describe_confusion(confusion, class_names))
    options = "".join(f'<option value="{html.escape(one, quote=True)}"></option>' for one in class_names)
    mistakes = "".join(
        f"<li>{html.escape(class_names[label])} <b>taken for</b> {html.escape(class_names[answer])}: {count}</li>"
        for label, answer, count in list_confusions(confusion)
    )
    return f"""<div class="confusion" id="{name}">
<div class="controls">
<label>Search a class <input type="search" list="{name}-names" class="search" autocomplete="off"></label>
<datalist id="{name}-names">{options}</datalist>
<label>Order <select class="sort"><option value="clusters">by confusion</option><option value="label">by number</option>
<option value="name">by name</option><option value="accuracy">hardest first</option></select></label>
<span class="zoom"><button type="button" class="in" aria-label="Zoom in">+</button>
<button type="button" class="out" aria-label="Zoom out">&minus;</button>
<button type="button" class="all">All</button></span></div>
<canvas tabindex="0" role="img" aria-label="Confusion matrix: rows are classes, columns are answers. Arrow keys move,
plus and minus zoom."></canvas>
<p class="readout" aria-live="polite">Rows are classes, columns are answers; point at a field, or move with the arrow
keys.</p>
<details open><summary>Commonest mistakes</summary><ol class="mistakes">{mistakes}</ol></details>
<script type="application/json">{data}</script></div>"""


def embed_json(content: Any) -> str:
    """JSON inside a script element: nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
