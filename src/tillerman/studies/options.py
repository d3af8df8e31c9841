"""What every study can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError


@dataclass(frozen=True)
class StudyOptions:
    """What every study can be asked; each adds its own."""

    limit: int = 200  # most test items per case
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit < 2:
            raise UsageError(f"`limit` {self.limit}: an interval needs at least two items")
