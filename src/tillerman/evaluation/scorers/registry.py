"""The scorers by name. ``pattern:REGEX``, ``keywords:a+b``, ... take what follows the colon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.core.registry import Registry
from tillerman.evaluation.scorers import texts
from tillerman.evaluation.scorers.answers import Accuracy, Divergence, LogOdds, TotalVariation
from tillerman.evaluation.scorers.base import AnswerScorer, TextScorer
from tillerman.evaluation.scorers.sentiment import Sentiment


@dataclass(frozen=True)
class ScorerEntry:
    """How a scorer is made; ``wants`` says what follows its colon, empty where nothing may."""

    make: Callable[[str], TextScorer]
    wants: str = ""
    usual: str | None = None  # taken where nothing follows


TEXT_SCORERS: Registry[ScorerEntry] = Registry(
    "scorer",
    {
        "any": ScorerEntry(texts.any_keyword, "words joined by +, or happy, or sad"),
        "distinct": ScorerEntry(texts.distinct, "a number of words", "2"),
        "exact": ScorerEntry(texts.Exact, "the reference"),
        "fluency": ScorerEntry(lambda _: texts.fluency()),
        "keywords": ScorerEntry(texts.keywords, "words joined by +, or happy, or sad"),
        "length": ScorerEntry(lambda _: texts.length()),
        "pattern": ScorerEntry(texts.pattern, "a regular expression"),
        "repetition": ScorerEntry(lambda _: texts.repetition()),
        "sentiment": ScorerEntry(lambda _: Sentiment()),
        "thought-length": ScorerEntry(lambda _: texts.ThoughtLength()),
    },
)

ANSWER_SCORERS: Registry[AnswerScorer] = Registry(
    "scorer of answers",
    {
        "accuracy": Accuracy(),
        "log-odds": LogOdds(),
        "log-odds-best": LogOdds("log-odds-best", against="best"),
        "target-tv": TotalVariation(),
        "target-kl": Divergence(),
    },
)


def text_scorer(asked: str, references: Mapping[str, str] | None = None) -> TextScorer:
    """``sentiment``, ``pattern:[AB]``, ...; ``references`` are for ``exact``, by prompt."""
    name, colon, given = asked.partition(":")
    entry = TEXT_SCORERS[name]
    if name == "exact" and not colon and references:
        return texts.Exact(references=references)
    if colon and not entry.wants:
        raise UsageError(f"scorer {name!r} takes nothing after a colon, got {given!r}")
    said = given if colon else entry.usual
    if entry.wants and not said:
        raise UsageError(f"scorer {name!r} wants {entry.wants}: write {name}:...")
    return entry.make(said or "")


def text_scorers(asked: Sequence[str], references: Mapping[str, str] | None = None) -> tuple[TextScorer, ...]:
    """The scorers of ``sentiment,fluency,pattern:a,b``: commas part names, and a colon takes the rest."""
    names = [name for text in asked for name in _parted(text)]
    if len(set(names)) < len(names) or not names:
        raise UsageError(f"scorers {', '.join(names) or '(none)'}: name each once, and at least one")
    return tuple(text_scorer(name, references) for name in names)


def _parted(text: str) -> list[str]:
    head, colon, tail = text.partition(":")
    first, _, last = head.rpartition(",")
    return [*(name.strip() for name in first.split(",") if name.strip()), last.strip() + colon + tail]
