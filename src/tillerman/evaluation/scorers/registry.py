"""The scorers by name, as the files that define them list them. ``pattern:REGEX``, ``keywords:a+b``, ... take what
follows the colon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tillerman.core.errors import UsageError
from tillerman.core.plugins import OpenRegistry
from tillerman.core.registry import Registry
from tillerman.evaluation.scorers import answers, classifier, labels, refusals, sentiment, texts
from tillerman.evaluation.scorers.base import AnswerScorer, ScorerEntry, TextScorer


def _wrong(name: str, value: Any) -> str | None:
    """What is wrong with a scorer that another package adds."""
    del name
    return None if isinstance(value, ScorerEntry) else f"expected a ScorerEntry, got {value!r}"


TEXT_SCORERS: Registry[ScorerEntry] = OpenRegistry(
    "scorer",
    {**texts.SCORERS, **sentiment.SCORERS, **labels.SCORERS, **refusals.SCORERS, **classifier.SCORERS},
    "tillerman.scorers",
    _wrong,
)
ANSWER_SCORERS: Registry[AnswerScorer] = Registry("scorer of answers", answers.SCORERS)


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
        raise UsageError(f"scorer {name!r} needs {entry.wants}: write {name}:...")
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
