"""Findings about data, as a table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.core.finding import Finding
from tillerman.logs.table import Table


def diagnostics_table(findings: Sequence[Finding]) -> Table:
    """What was looked at, and how it stands; errors stand out."""
    rows = tuple((found.level, found.check, found.message) for found in findings)
    strong = tuple(i for i, found in enumerate(findings) if found.level == "error")
    return Table("Data diagnostics", ("level", "check", "finding"), rows, strong)
