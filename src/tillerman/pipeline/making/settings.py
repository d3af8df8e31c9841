"""What is to be made, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from tillerman.core.errors import UsageError
from tillerman.data.making.filters import Limits
from tillerman.data.making.prompts import PromptPair, checked_description
from tillerman.evaluation.scorers.base import TextScorer

PLACES = ("system", "user", "both")  # where a prompt stands: as the system's, before the question, or at both places


@dataclass(frozen=True)
class Making:
    """What is to be made. Without ``pairs`` the prompts come from ``description``: its own, and ``write_prompts`` that
    the writer is asked for. ``questions`` given are the only ones; without any, up to ``write_questions`` are written
    and ready ones fill up. ``objective`` ranks ``best_of`` answers to each question; ``scorer`` only filters."""

    description: str = ""
    pairs: tuple[PromptPair, ...] = ()
    questions: tuple[str, ...] = ()
    items: int = 200
    write_prompts: int = 3
    write_questions: int = 40
    prompt_in: str = "system"
    tokens: int = 60
    temperature: float = 0.7
    seed: int = 0
    objective: TextScorer | None = None
    best_of: int = 4
    scorer: TextScorer | None = None
    margin: float = 0.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.description and not self.pairs and self.objective is None:
            raise UsageError(
                'nothing says what is to be made; describe it, as in make "speaks like a pirate", or give '
                "--positive-prompt and --negative-prompt, or an --objective"
            )
        if self.description:
            object.__setattr__(self, "description", checked_description(self.description))
        least = {"items": 1, "tokens": 1, "best_of": 2, "write_prompts": 0, "write_questions": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least {low}")
        if self.prompt_in not in PLACES:
            raise UsageError(f"prompt_in {self.prompt_in!r}: expected one of {', '.join(PLACES)}")
        if self.objective is not None and self.temperature == 0:
            raise UsageError("temperature 0: an objective ranks different answers to a question; give more, as 0.7")
