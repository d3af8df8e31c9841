"""The typed log of scored replies: all texts, each scorer's values, figures with n and interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tillerman.core.errors import DataError
from tillerman.logs.base import build
from tillerman.statistics.agreement import Agreement
from tillerman.statistics.scores import Value
from tillerman.statistics.values import ScoreMean

SCORE_VERSION = 1


@dataclass(frozen=True)
class Spoken:
    """What the model said under one condition: ``replies[draw]`` are each prompt's samples in turn. One draw, but
    for the null of random directions."""

    name: str  # unsteered, steered, prompt, both, null:random
    detail: str
    strength: float
    dose: float
    replies: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ScorerRow:
    """A scorer on one condition. ``change`` is against unsteered on the same prompts, None for unsteered itself and
    where no prompt could be measured on both sides. ``values[draw]`` are those of the replies, None where missing."""

    condition: int  # its place in the log
    figure: ScoreMean | None
    change: ScoreMean | None
    values: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class ScorerResult:
    """One scorer on all conditions. ``low`` and ``high`` are its range, None where there is no bound."""

    scorer: str
    unit: str
    low: float | None
    high: float | None
    better: str
    note: str
    rows: tuple[ScorerRow, ...]


@dataclass(frozen=True)
class JudgeAgreement:
    """How far the first two ratings of the same texts agree, over all conditions."""

    rubric: str
    agreement: Agreement


@dataclass(frozen=True)
class ScoreLog:
    """Everything ``tillerman score`` made and measured."""

    model_id: str
    method: str
    hook_point: str
    scope: str
    prompts: tuple[str, ...]  # as scorers see them
    references: tuple[str | None, ...]
    samples: int  # replies to each prompt
    tokens: int
    temperature: float
    seed: int
    conditions: tuple[Spoken, ...]
    scored: tuple[ScorerResult, ...]
    provenance: dict[str, Any]
    agreements: tuple[JudgeAgreement, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    version: int = field(default=SCORE_VERSION)

    def by(self, scorer: str) -> ScorerResult:
        return next(one for one in self.scored if one.scorer == scorer)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ScoreLog:
        if not isinstance(values, dict) or values.get("version") != SCORE_VERSION or "conditions" not in values:
            raise DataError(f"not a log of 'tillerman score' of version {SCORE_VERSION}; it writes one with --out")
        try:
            return build(cls, values)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DataError(f"the log of 'tillerman score' is damaged ({error!r}); make it again") from error

    def texts(self) -> tuple[list[str], list[str]]:
        """Prompt and reply of every text, condition by condition, draw by draw."""
        asked = [prompt for prompt in self.prompts for _ in range(self.samples)]
        draws = [draw for condition in self.conditions for draw in condition.replies]
        return asked * len(draws), [reply for draw in draws for reply in draw]
