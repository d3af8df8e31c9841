"""A verdict: one word and one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UnknownNameError

OUTCOMES = ("good", "mixed", "bad", "unclear")


@dataclass(frozen=True)
class Verdict:
    """The answer in plain words, with its uncertainty. ``outcome``: good, mixed, bad or unclear for the vector."""

    outcome: str
    words: str

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise UnknownNameError("outcome", self.outcome, OUTCOMES)
