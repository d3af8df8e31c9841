"""The program as typer parses it, with what the house adds to every command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from tillerman.cli.moved import check_moved
from tillerman.core.escaping import visible

# Every mistake in the arguments, whichever click typer comes with.
MISTAKE: Any = typer.BadParameter.__mro__[1]


class Program(TyperGroup):
    """Names the new spelling of what has moved before anything is parsed; a mistake in the arguments is told without
    obeying what is in them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        check_moved(args)
        with _as_text():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _as_text():
            return super().invoke(ctx)


@contextmanager
def _as_text() -> Iterator[None]:
    try:
        yield
    except MISTAKE as error:
        error.message = visible(error.message)
        raise
