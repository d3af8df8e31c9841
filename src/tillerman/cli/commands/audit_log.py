"""``tillerman audit-log``: whether an audit of ``tillerman serve`` is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli.output import OUT


def audit_log(
    file: Annotated[Path, typer.Argument(help="the audit that a server wrote", metavar="FILE")],
) -> None:
    """Check that no line of a server's audit was changed or taken out.

    Lines cut off at the end of the file cannot be missed; keep copies elsewhere."""
    from tillerman.serving.audit import check_chain

    count = check_chain(file)
    OUT.print(f"{file}: {count} lines, each follows from the one before", highlight=False, markup=False, soft_wrap=True)
