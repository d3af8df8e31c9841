"""The program as typer parses it, with what the house adds to every command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from tillerman.cli.moved import check_moved


class Program(TyperGroup):
    """Names the new spelling of what has moved before anything is parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        check_moved(args)
        return super().parse_args(ctx, args)
