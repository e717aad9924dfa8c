"""How the story looks: one block a step, coloured on a terminal, plain text anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from rankgate.audit.text import printable

__all__ = ["Step", "Teller", "abridged"]

PIPE_WIDTH = 130
LABEL = 10
INDENT = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it came out: label and text of each line, and every way in which it was not as told."""

    title: str
    lines: tuple[tuple[str, str], ...]
    faults: tuple[str, ...] = ()


class Teller:
    """Prints steps to standard output. NO_COLOR and FORCE_COLOR are respected (by rich)."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._number = 0
        self._width = (self._console.width if self._console.is_terminal else PIPE_WIDTH) - INDENT - LABEL - 1
        self._utf8 = (self._console.encoding or "").lower().startswith("utf")

    def headline(self, text: str) -> None:
        """Print a line of its own weight."""
        self._console.print(Text(text, style="bold"))

    def note(self, text: str) -> None:
        """Print a quiet line."""
        self._console.print(Text(text, style="dim"))

    def good(self, text: str) -> None:
        """Print the good end."""
        self._console.print(Text(text, style="bold green"))

    def bad(self, text: str) -> None:
        """Print the bad end."""
        self._console.print(Text(text, style="bold red"))

    def line(self, text: str) -> None:
        """Print `text` exactly: commands to copy stay on one line."""
        self._console.print(Text(text))

    def step(self, step: Step) -> None:
        """Print one step, with a tick where it came out as told and a red line for every fault."""
        self._number += 1
        mark = ("\u2713" if self._utf8 else "ok") if not step.faults else ("\u2717" if self._utf8 else "NOT AS TOLD")
        head = Text.assemble(
            (f"\n{self._number:>2}  ", "dim"),
            (step.title, "bold"),
            (f"  {mark}", "bold green" if not step.faults else "bold red"),
        )
        self._console.print(head)
        self.lines(step.lines)
        for fault in step.faults:
            self._console.print(Text(f"    not as told: {fault}", style="bold red"))

    def lines(self, lines: Iterable[tuple[str, str]]) -> None:
        """Print label and text of each line; a line without a text is a heading of those after it."""
        for label, text in lines:
            if not text:
                self._console.print(Text(f"    {label}", style="cyan"))
                continue
            shown = abridged(text, self._width)
            self._console.print(Text.assemble((f"{'':{INDENT}}{label:<{LABEL}} ", "dim"), printable(shown)))


def abridged(text: str, limit: int) -> str:
    """Return `text`, or its beginning and three dots, at most `limit` characters long (and at least 40)."""
    limit = max(limit, 40)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
