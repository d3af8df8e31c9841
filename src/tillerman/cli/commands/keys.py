"""``tillerman keys``: a key for a client of ``tillerman serve``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from tillerman.cli.output import ERR, OUT
from tillerman.core.errors import UsageError


class KeyAction(Enum):
    """What is done with keys."""

    NEW = "new"


def keys(
    action: Annotated[KeyAction, typer.Argument(help="new: make one", metavar="new")],
    name: Annotated[str, typer.Option(help="whose it is, as the audit names them")],
) -> None:
    """Make a key for a client of 'serve'.

    It is printed once; the lines for the file of --config hold only its hash."""
    from tillerman.serving.keys import hash_of, new_key

    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"--name {name[:40]!r}: letters, digits, '.', '_' and '-'")
    key = new_key()
    OUT.print(key, highlight=False, markup=False, soft_wrap=True)
    lines = f'[[keys]]\nname = "{name}"\nsha256 = "{hash_of(key)}"'
    ERR.print("# keep it, it is not shown again; for the file of --config:", highlight=False)
    ERR.print(lines, highlight=False, markup=False, soft_wrap=True)
    assert action is KeyAction.NEW
