"""What the study of many turns can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.studies.options import StudyOptions

UNSTEERED, PROMPT = "unsteered", "prompt"
LIVE, FROZEN, FRESH, OFF = "steered, live", "steered, frozen", "steered, unsteered history", "switched off"
BEHAVIOUR, NATS, REPEATED = "behaviour", "nats per token", "repeated runs"
MEASURES = (BEHAVIOUR, NATS, REPEATED)
LEAST = 8  # conversations: of fewer no mean has an interval


@dataclass(frozen=True)
class TurnsOptions(StudyOptions):
    """``limit`` conversations of ``turns`` questions each, answered by at most ``text_tokens``; the vector is also
    switched off after turn ``off_after``."""

    limit: int = 16
    turns: int = 10
    off_after: int = 5
    text_tokens: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < LEAST:
            raise UsageError(f"`limit` {self.limit}: an interval needs at least {LEAST} conversations")
        if self.turns < 3:
            raise UsageError(f"`turns` {self.turns}: a slope over turns needs at least three")
        if not 1 <= self.off_after < self.turns:
            raise UsageError(f"`off_after` {self.off_after}: expected a turn from 1 to {self.turns - 1}")
        if self.text_tokens < 1:
            raise UsageError(f"`text_tokens` {self.text_tokens}: expected at least 1")


def case_of(measure: str, turn: int) -> str:
    """The case of a measure's trials at a turn, counted from 1."""
    return f"{measure}, turn {turn}"
