"""A verdict: one word and one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UnknownNameError

OUTCOMES = ("good", "mixed", "scores only", "bias only", "bad", "unclear")
WORKS = ("good", "mixed", "scores only")  # an effect that is the vector's own was found


@dataclass(frozen=True)
class Verdict:
    """The answer in plain words, with its uncertainty. ``outcome``: of ``OUTCOMES``."""

    outcome: str
    words: str

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise UnknownNameError("outcome", self.outcome, OUTCOMES)
