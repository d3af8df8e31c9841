"""A package that adds a method and a scorer to Tillerman."""

from dataclasses import dataclass
from typing import ClassVar

import tillerman
from tillerman.core.spec import option
from tillerman.evaluation.scorers.base import ScoreRange, ScorerEntry


@dataclass(frozen=True)
class Median(tillerman.ContrastMethod):
    """The difference of the medians, times ``times``."""

    name: ClassVar[str] = "median"
    times: float = option(1.0, "how long the vector is", above=0)

    def direction(self, positive, negative, paired):
        return self.times * (positive.median(0).values - negative.median(0).values)


@dataclass(frozen=True)
class Vowels:
    """How many vowels a reply has."""

    name: str = "vowels"
    scale: ClassVar[ScoreRange] = ScoreRange("vowels", 0.0, 1e9)
    note: str = ""

    def score(self, prompts, replies):
        return [float(sum(letter in "aeiou" for letter in reply)) for reply in replies]


VOWELS = ScorerEntry(lambda _: Vowels())
