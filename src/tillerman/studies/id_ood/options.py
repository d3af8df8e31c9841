"""What the study of generalisation can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.studies.options import StudyOptions

HOME = "as fitted"
FREE = "in its own words"
SOURCE, OTHER, MATRIX = "source: ", "other: ", "vector of "
REPLY_TOKENS = 24


@dataclass(frozen=True)
class IdOodOptions(StudyOptions):
    """``sources``: other data on the same behaviour. ``others``: data on other behaviours; None takes embedded
    samples of the same kind, an empty tuple none. ``matrix``: vectors of these too, by the same method."""

    sources: tuple[str, ...] = ()
    others: tuple[str, ...] | None = None
    matrix: bool = True
    context_tokens: int = 256
    draws: int = 4  # random directions
