"""The typed log of a made data file: who wrote it, what was asked, how many pairs were dropped and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tillerman.logs.base import Log
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.values import Interval

NOTHING_KEPT = "no pair is left"


@dataclass(frozen=True)
class UsedPrompts:
    """A pair of prompts, and how many pairs of answers were written under it and kept."""

    positive: str
    negative: str
    written: int
    kept: int


@dataclass(frozen=True)
class Dropped:
    """Pairs that were left out for one fault, and the first of them."""

    fault: str
    count: int
    question: str
    wanted: str
    unwanted: str


@dataclass(frozen=True)
class Separation:
    """How well a scorer tells the two sides apart, before anything was dropped for it; ``area`` is None where it could
    not be measured. ``margin``: by how much the wanted answer had to score higher."""

    scorer: str
    area: float | None = None
    interval: Interval | None = None
    n: int = 0
    margin: float = 0.0


@dataclass(frozen=True, repr=False)
class MakingLog(Log):
    """Everything one ``make`` did. ``refused`` says why no data file was written, empty where it was."""

    kind: ClassVar[str] = "making"
    maker: ClassVar[str] = "tillerman make"

    description: str
    source: str  # description, prompts, texts, objective
    writer: str  # who wrote prompts and questions; empty where nobody had to
    answered_by: str  # who wrote the answers; empty where texts were given
    written: int  # pairs, or texts, before any was dropped
    kept: int
    asked_for: int
    prompts: tuple[UsedPrompts, ...] = ()
    questions: Mapping[str, int] = field(default_factory=dict)  # how many ready, written, given
    dropped: tuple[Dropped, ...] = ()
    separation: Separation | None = None
    prompt_in: str = ""  # where the prompts stood: system, user
    tokens: int = 0
    temperature: float = 0.0
    seed: int = 0
    data_digest: str = ""  # sha256 of the data file
    provenance: dict[str, Any] = field(default_factory=dict)  # versions, date, the model and how it was opened
    notes: tuple[str, ...] = ()
    refused: str = ""
    seconds: float = 0.0

    def tidy(self) -> Tables:
        about = {"description": self.description, "model": self.answered_by}
        counts = {"asked_for": self.asked_for, "written": self.written, "kept": self.kept}
        apart = {} if self.separation is None else record(self.separation, {})
        return {
            "pairs": [about | counts | apart],
            "prompts": (record(one, about) for one in self.prompts),
            "dropped": (record(one, about) for one in self.dropped),
        }
