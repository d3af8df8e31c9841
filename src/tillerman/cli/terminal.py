"""The terminal that commands print to. Whatever they print may hold text of others: no markup, emoji code or control
sequence in it is obeyed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tillerman.core.errors import UsageError
from tillerman.core.escaping import visible


class Terminal(Console):
    """A console that takes texts as they are. Styles are given beside them, never in them.

    A reader of the output that goes away (``| head``) ends the output and not the work: ``deserted`` is True then.
    """

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)
        self.deserted = False

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Also what came as a ``Text`` of its own."""
        for segment in super().render(renderable, options):
            seen = segment.text if segment.control else visible(segment.text)
            yield segment if seen == segment.text else Segment(seen, segment.style, segment.control)

    def on_broken_pipe(self) -> None:
        """Nothing more is written; rich would end the program here, before its files are."""
        self.deserted = self.quiet = True
        close_output(1)


def ready_output() -> None:
    """``UsageError`` where there is no standard output. What its encoding does not have is spelt out, not refused."""
    if sys.stdout is None:
        raise UsageError("the standard output is closed, and results would be lost; send it to a file: > FILE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_output(descriptor: int) -> None:
    """What is still in a buffer goes nowhere, so that Python does not fail again on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
