"""Tables in Markdown, and reports as a page for people and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinemix.atomic import write_atomically


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; bars within its cells are escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def write_report(stem: Path, page: str, content: Mapping[str, Any]) -> None:
    """Put a page into ``<stem>.md`` and the same as data into ``<stem>.json``; their folder is made if missing."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    _write(stem.with_suffix(".md"), page)
    _write(stem.with_suffix(".json"), data)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
