"""The typed log of scored replies: all texts, each scorer's values, figures with n and interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tillerman.logs.base import Log
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.agreement import Agreement
from tillerman.statistics.scores import Value
from tillerman.statistics.values import ScoreMean


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


@dataclass(frozen=True, repr=False)
class ScoreLog(Log):
    """Everything ``tillerman score`` made and measured."""

    kind: ClassVar[str] = "scores"
    maker: ClassVar[str] = "tillerman score --out FILE"

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

    def check(self) -> None:
        """A row is of one of the conditions; every draw has each prompt's samples."""
        for one in self.scored:
            for row in one.rows:
                if not 0 <= row.condition < len(self.conditions):
                    count = len(self.conditions)
                    raise ValueError(f"{one.scorer}: a row of condition {row.condition}; there are {count}")
        if len(self.references) != len(self.prompts):
            raise ValueError(f"{len(self.prompts)} prompts, {len(self.references)} references")

    def tidy(self) -> Tables:
        about = {"model": self.model_id, "method": self.method}
        asked = [prompt for prompt in self.prompts for _ in range(self.samples)]
        return {
            "figures": (
                {**about, "scorer": one.scorer, "unit": one.unit, "condition": self.conditions[row.condition].name}
                | record(self.conditions[row.condition], {}, ("replies",))
                | record(row, {}, ("condition", "values"))
                for one in self.scored
                for row in one.rows
            ),
            "replies": (
                {**about, "condition": one.name, "draw": draw, "sample": place % self.samples, "prompt": prompt}
                | {"reply": reply}
                for one in self.conditions
                for draw, replies in enumerate(one.replies)
                for place, (prompt, reply) in enumerate(zip(asked, replies, strict=True))
            ),
            "values": (
                {**about, "scorer": one.scorer, "condition": self.conditions[row.condition].name, "draw": draw}
                | {"sample": place % self.samples, "prompt": prompt, "value": value}
                for one in self.scored
                for row in one.rows
                for draw, values in enumerate(row.values)
                for place, (prompt, value) in enumerate(zip(asked, values, strict=True))
            ),
        }

    def by(self, scorer: str) -> ScorerResult:
        return next(one for one in self.scored if one.scorer == scorer)

    def texts(self) -> tuple[list[str], list[str]]:
        """Prompt and reply of every text, condition by condition, draw by draw."""
        asked = [prompt for prompt in self.prompts for _ in range(self.samples)]
        draws = [draw for condition in self.conditions for draw in condition.replies]
        return asked * len(draws), [reply for draw in draws for reply in draw]
