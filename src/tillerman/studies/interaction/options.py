"""What the study of interaction can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.studies.options import StudyOptions

TOGETHER, COMPANY, PROMPT = "together", "random company", "prompt"


@dataclass(frozen=True)
class InteractionOptions(StudyOptions):
    """``draws``: random directions, of each vector alone and of each vector's company."""

    draws: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 2:
            raise UsageError(f"`draws` {self.draws}: an interval over draws needs at least two")


def acting_alone(name: str) -> str:
    return f"alone: {name}"


def left_out(name: str) -> str:
    return f"without: {name}"
