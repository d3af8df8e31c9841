"""One finding of a check: used by the data diagnostics, kept in the evaluation's log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One finding of the data diagnostics."""

    check: str  # e.g. constant-letter, first-token-confound, duplicates
    level: str  # ok, note, warning, error
    message: str
    value: float | None = None
    threshold: float | None = None
