"""What the study of side effects can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.budget import MAX_KL, MAX_PERPLEXITY_RATIO
from tillerman.core.errors import UsageError
from tillerman.reports.numbers import decimal
from tillerman.studies.options import StudyOptions

UNSTEERED = "unsteered"
BEHAVIOUR, UNRELATED = "behaviour", "unrelated task"
CHOSEN = 1.0


@dataclass(frozen=True)
class SideEffectsOptions(StudyOptions):
    """``factors``: multiples of the artefact's strength. The budget: KL in nats per token, perplexity ratio, and
    accuracy lost on the unrelated task, as a share."""

    factors: tuple[float, ...] = (-2.0, -1.0, -0.5, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    max_kl: float = MAX_KL
    max_perplexity_ratio: float = MAX_PERPLEXITY_RATIO
    max_loss: float = 0.05
    unrelated_items: int = 200
    text_tokens: int = 40  # of each of 32 free texts

    def __post_init__(self) -> None:
        super().__post_init__()
        if not {CHOSEN} <= set(self.factors) or 0.0 in self.factors:
            raise UsageError("`factors`: multiples of the artefact's strength; 1 must be among them, 0 is always there")
        if self.max_kl <= 0 or self.max_perplexity_ratio <= 1 or not 0 < self.max_loss < 1:
            raise UsageError("the budget: `max_kl` above 0, `max_perplexity_ratio` above 1, `max_loss` between 0 and 1")


def case_of_factor(factor: float) -> str:
    return f"{decimal(factor, 2)} ×"
