"""What the study of safety can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.studies.options import StudyOptions

UNSTEERED, STEERED, PROMPT, NULL = "unsteered", "steered", "prompt", "null:random"
WITHOUT = "without the refusal direction"
UNSAFE, SAFE, BEHAVIOUR, REPEATED = "unsafe prompts", "safe prompts", "behaviour", "repeated runs"
COSINE, TOLD, LENGTH = "cosine with the refusal direction", "projection on the refusal direction", "length left"
SHUFFLED = "null:shuffled"
LEAST = 10  # prompts of each side that are tested, and from which the direction is made


@dataclass(frozen=True)
class SafetyOptions(StudyOptions):
    """``limit`` prompts of each side are tested, answered by at most ``text_tokens``; ``fit_prompts`` others of each
    make the refusal direction. ``prompts`` and ``safe_prompts``: files instead of XSTest's. A change of refusals within
    ``max_change`` (a share) is none to speak of."""

    limit: int = 80
    text_tokens: int = 40
    draws: int = 4  # random directions
    fit_prompts: int = 100
    prompts: tuple[str, ...] = ()
    safe_prompts: tuple[str, ...] = ()
    max_change: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 2:
            raise UsageError(f"`draws` {self.draws}: an interval over draws needs at least two")
        for what, count in (("`limit`", self.limit), ("fit_prompts", self.fit_prompts)):
            if count < LEAST:
                raise UsageError(f"{what} {count}: expected at least {LEAST} prompts of each side")
        if self.text_tokens < 1:
            raise UsageError(f"`text_tokens` {self.text_tokens}: expected at least 1")
        if not 0 < self.max_change < 1:
            raise UsageError(f"`max_change` {self.max_change:g}: expected a share between 0 and 1")
