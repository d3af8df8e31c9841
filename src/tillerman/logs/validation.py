"""The typed log of a scorer held against labelled replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.logs.base import Log
from tillerman.logs.tidy import Tables, record
from tillerman.statistics.agreement import Statistic
from tillerman.statistics.confusion import Confusion, Reliability
from tillerman.statistics.scores import Value
from tillerman.statistics.values import Rate

GIVEN, MIDDLE, CHOSEN = THRESHOLDS = ("given", "middle", "chosen")


@dataclass(frozen=True)
class RatedReply:
    """One reply: its label, its score (None: nothing to measure) and what that was called (None: left out). ``begins``
    are its first words; ``text`` is empty unless whole texts were asked for. ``said``: the annotators, in order."""

    id: str
    label: bool
    score: Value
    called: bool | None
    begins: str
    said: tuple[bool | None, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Pairwise:
    """How far two agree on the replies that both labelled. ``kappa`` is None where both said the same of all."""

    first: str
    second: str
    table: Confusion
    same: Rate
    kappa: Statistic | None


@dataclass(frozen=True, repr=False)
class ValidationLog(Log):
    """Everything ``tillerman validate-scorer`` found. ``low`` and ``high``: the scorer's range, None where there is no
    bound; ``how``: whether the threshold was given, is the middle of the range, or was chosen on these replies, each
    fifth by the others; ``below``: replies that score below it are called yes. The first of ``pairs`` is the scorer
    against the label."""

    kind: ClassVar[str] = "validation"
    maker: ClassVar[str] = "tillerman validate-scorer SCORER FILE --out FOLDER"

    scorer: str
    unit: str
    low: float | None
    high: float | None
    note: str
    data_name: str
    data_digest: str
    column: str
    wanted: tuple[str, ...]
    annotators: tuple[str, ...]
    threshold: float
    how: str
    below: bool
    replies: tuple[RatedReply, ...]
    pairs: tuple[Pairwise, ...]
    auc: Statistic | None = None
    reliability: Reliability | None = None
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Replies have a word of every annotator; the first pair is the scorer's."""
        if self.how not in THRESHOLDS:
            raise ValueError(f"how {self.how}: expected one of {', '.join(THRESHOLDS)}")
        if not self.pairs:
            raise ValueError("pairs: none")
        for one in self.replies:
            if len(one.said) != len(self.annotators):
                raise ValueError(f"{one.id}: {len(one.said)} annotators, {len(self.annotators)} are named")

    @property
    def agreed(self) -> Pairwise:
        """The scorer against the label."""
        return self.pairs[0]

    @property
    def missing(self) -> int:
        """Replies in which there was nothing to measure."""
        return sum(one.score is None for one in self.replies)

    @property
    def wrong(self) -> tuple[RatedReply, ...]:
        """Disagreements, the score farthest from the threshold first."""
        found = [one for one in self.replies if one.called is not None and one.called != one.label]
        return tuple(sorted(found, key=lambda one: -abs((one.score or 0.0) - self.threshold)))

    def tidy(self) -> Tables:
        about = {"scorer": self.scorer, "data": self.data_name}
        bins = self.reliability.bins if self.reliability is not None else ()
        return {
            "agreement": (record(one, about) for one in self.pairs),
            "bins": (record(one, about) for one in bins),
            "replies": (record(one, about) for one in self.replies),
        }
