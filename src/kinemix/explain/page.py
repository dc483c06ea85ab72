"""One HTML page that opens from disk: text, tables and pictures in a single file, nothing fetched."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from kinemix.atomic import write_atomically

Picture: TypeAlias = Figure | bytes
"""A figure, or what :func:`render_png` made of it."""

_SHORT = 32
"""Letters up to which the text of a cell is not broken into lines."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d5d9de; --soft: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #14171a; --line: #3a4047; --soft: #1f2429; } img { background: #fff; }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
.short { white-space: nowrap; }
td.short:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 10.5rem; }
td.long { min-width: 16rem; text-align: left; }
thead th { background: var(--soft); }
img, video { max-width: 100%; height: auto; border-radius: 4px; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; } .pair figure { flex: 1 1 20rem; margin: 0; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .8; }
.contents { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
a { color: #0072b2; } @media (prefers-color-scheme: dark) { a { color: #7cc4f0; } }
:focus-visible { outline: 3px solid #e69f00; outline-offset: 2px; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


class Page:
    """Collects blocks and renders them; every text given is escaped, so names from files are safe."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[str] = [f"<h1>{html.escape(title)}</h1>"]
        self._styles: list[str] = [_STYLE]
        self._scripts: list[str] = []
        self._headings: list[tuple[str, str]] = []

    def add_heading(self, text: str, *, level: int = 2) -> None:
        """A heading of a section (level 2) or of a part of one (3)."""
        name = ""
        if level == 2:  # the contents lead there
            self._headings.append((f"part-{len(self._headings) + 1}", text))
            name = f' id="{self._headings[-1][0]}"'
        self._blocks.append(f"<h{level}{name}>{html.escape(text)}</h{level}>")

    def add_text(self, text: str) -> None:
        self._blocks.append(f"<p>{html.escape(text)}</p>")

    def add_code(self, text: str) -> None:
        self._blocks.append(f"<pre><code>{html.escape(text)}</code></pre>")

    def add_details(self, title: str, text: str) -> None:
        """A long text that is folded away until somebody opens it."""
        self._blocks.append(
            f"<details><summary>{html.escape(title)}</summary><pre><code>{html.escape(text)}</code></pre></details>"
        )

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose first column is text and whose others are figures."""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
        body = "".join("<tr>" + "".join(_render_cell(cell) for cell in row) + "</tr>" for row in rows)
        self._blocks.append(
            f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def add_html(self, block: str) -> None:
        """A block of HTML as it is: whoever gives it has escaped what is not theirs."""
        self._blocks.append(block)

    def add_style(self, style: str) -> None:
        """CSS for blocks of one's own."""
        self._styles.append(style)

    def add_script(self, script: str) -> None:
        """JavaScript that runs when the page is there; it must not contain the end of a script element."""
        self._scripts.append(script)

    def add_contents(self) -> None:
        """A list of links to the sections, in front of everything; to be called when all are there."""
        links = "".join(
            f'<li><a href="#{name}">{html.escape(text)}</a></li>' for name, text in self._headings
        )
        self._blocks.insert(1, f'<nav aria-label="Contents"><ul class="contents">{links}</ul></nav>')

    def add_film(self, film: bytes, caption: str) -> None:
        """An MP4 file that the browser plays in place (:func:`kinemix.data.film.encode_film` makes one)."""
        self._blocks.append(
            f'<figure><video controls loop muted playsinline src="{to_data_url(film, "video/mp4")}"></video>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def add_figures(self, *figures: tuple[Picture, str]) -> None:
        """Figures side by side, where the screen is wide enough; each with its caption."""
        inner = "".join(
            f'<figure><img alt="{html.escape(caption)}" src="{to_data_url(render_png(figure), "image/png")}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for figure, caption in figures
        )
        self._blocks.append(f'<div class="pair">{inner}</div>')

    def render(self) -> str:
        """The whole page as one string of HTML."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{''.join(self._styles)}</style></head>\n<body>\n"
            + "\n".join(self._blocks)
            + "".join(f"\n<script>{script}</script>" for script in self._scripts)
            + "\n</body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Put the page into a file, whole or not at all."""
        text = self.render()
        write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"), durable=False)


def render_png(picture: Picture) -> bytes:
    """A figure as a PNG file; what is one already stays as it is."""
    if isinstance(picture, bytes):
        return picture
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _render_cell(cell: str) -> str:
    """Figures stay on one line; names and paths may be broken."""
    kind = "short" if len(cell) <= _SHORT else "long"
    return f'<td class="{kind}">{html.escape(cell)}</td>'


def write_png(figure: Figure, path: Path) -> None:
    """Put a figure into a file, whole or not at all."""
    write_atomically(path, lambda partial: partial.write_bytes(render_png(figure)), durable=False)


def to_data_url(content: bytes, kind: str) -> str:
    """A file as an address that holds it: ``kind`` is its MIME type."""
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")
