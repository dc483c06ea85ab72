"""Files that a user names for an answer: refused before the work is done, and written whole or not at all."""

from pathlib import Path

from kinemix.atomic import write_atomically
from kinemix.errors import ConfigError


def check_file(file: str | None) -> None:
    """Raise a :class:`ConfigError` if a file cannot stand there; ``None`` is none, and ``-`` the terminal."""
    if file is None or file == "-":
        return
    path = Path(file)
    if path.is_dir():
        raise ConfigError(f"{file}: is a folder: name a file in it")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {path.parent}: make it first")


def write_file(file: str, text: str) -> None:
    """Write a text that ends in a line break."""
    text = text if text.endswith("\n") else f"{text}\n"
    write_atomically(Path(file), lambda partial: partial.write_text(text, encoding="utf-8"))
