"""Old spellings, and what is written instead. A line per spelling; a program that meets one says the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError


@dataclass(frozen=True)
class Moved:
    """``old``: a flag, or the name of a command. ``new``: what to write, as the user types it. ``commands``: whose flag
    it was; empty for a command."""

    old: str
    new: str
    commands: tuple[str, ...] = ()


MOVED: tuple[Moved, ...] = (Moved("--lora", "--lora-baseline", ("compare",)),)


def check_moved(arguments: Sequence[str], moved: Sequence[Moved] = MOVED) -> None:
    """``UsageError`` that names the new spelling, for the first old one among the command line's ``arguments``."""
    if not arguments:
        return
    command, *rest = arguments
    commands = {one.old: one for one in moved if not one.commands}
    if command in commands:
        raise UsageError(f"{command} is gone; write: {commands[command].new}")
    flags = {one.old: one for one in moved if command in one.commands}
    for argument in rest:
        if argument == "--":  # what follows is no flag
            return
        flag = argument.partition("=")[0]
        if flag in flags:
            raise UsageError(f"{flag} is gone; write: {flags[flag].new}")
