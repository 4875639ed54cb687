"""Where an answer goes: text for people, with colours on a terminal; documents for programs."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

import yaml

Form = Literal["text", "json", "yaml"]

_CLEAR_LINE: Final = "\r\x1b[2K"


@dataclass(frozen=True, slots=True)
class Palette:
    """Marks words, or leaves them as they are."""

    colour: bool

    def good(self, text: str) -> str:
        """As it should be."""
        return self._mark(text, "32")

    def busy(self, text: str) -> str:
        """On its way."""
        return self._mark(text, "33")

    def bad(self, text: str) -> str:
        """Needs somebody."""
        return self._mark(text, "31")

    def strong(self, text: str) -> str:
        """What the text is about."""
        return self._mark(text, "1")

    def _mark(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


class Screen:
    """Prints. ``live``: the output is a terminal, on which a line can be replaced."""

    def __init__(self, out: TextIO, form: Form = "text", *, colour: bool = False, live: bool = False) -> None:
        """Text goes to ``out`` unless the answer is to be a document."""
        self.form: Form = form
        self.palette = Palette(colour)
        self._out, self._live = out, live
        self._shown: str | None = None

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines."""
        self._finish_progress()
        for line in lines:
            self._out.write(f"{line}\n")
        self._out.flush()

    def answer(self, document: Any, lines: Iterable[str]) -> None:
        """Print the document in the form that was asked for, or the lines."""
        if self.form == "text":
            self.lines(lines)
        else:
            self.document(document)

    def document(self, document: Any) -> None:
        """Print a document of several lines."""
        if self.form == "yaml":
            self._out.write(yaml.safe_dump(document, sort_keys=False, width=120))
        else:
            self._out.write(json.dumps(document, indent=2) + "\n")
        self._out.flush()

    def progress(self, line: str, document: Any = None) -> None:
        """Show how far something is, whenever that changes: in place on a terminal, else as a further line.

        For programs it is one of a stream of documents: a line of JSON, or YAML behind a separator.
        """
        if line == self._shown:
            return
        self._shown = line
        if self.form == "text":
            width = shutil.get_terminal_size().columns - 1
            self._out.write(_CLEAR_LINE + line[:width] if self._live else f"{line}\n")
        elif document is not None:
            separated = "---\n" + yaml.safe_dump(document, sort_keys=False, width=120)
            self._out.write(separated if self.form == "yaml" else json.dumps(document) + "\n")
        self._out.flush()

    def conclude(self, line: str) -> None:
        """The end of a progress; programs have seen it in the last document."""
        if self.form == "text":
            self.lines([line])

    def close(self) -> None:
        """Leave the terminal's line to whoever writes next."""
        self._finish_progress()
        self._out.flush()

    def _finish_progress(self) -> None:
        if self._live and self.form == "text" and self._shown is not None:
            self._out.write(_CLEAR_LINE)
        self._shown = None


def screen_for(out: TextIO, form: Form, *, no_color: bool, environment: Mapping[str, str] = os.environ) -> Screen:
    """Colours on a terminal, unless the caller or NO_COLOR (no-color.org) is against it."""
    live = out.isatty() and environment.get("TERM") != "dumb"
    return Screen(out, form, colour=live and not no_color and not environment.get("NO_COLOR"), live=live)


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> list[str]:
    """Rows with their columns aligned, under a head if there is one; empty columns are left out."""
    lines = [head, *rows] if head else rows
    shown = [column for column in zip(*lines, strict=True) if any(column[bool(head) :])]
    widths = [max(map(len, column)) for column in shown]
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in zip(*shown, strict=True)
    )
    return ["  ".join(line).rstrip() for line in padded]


def span(seconds: float) -> str:
    """A time span in one unit: 40s, 5m, 3h, 2d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
