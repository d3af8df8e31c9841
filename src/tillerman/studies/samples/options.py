"""What the study of sample size can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.studies.options import StudyOptions

ALL = "all examples"
ALIKE = "cosine to the vector of all examples"
BETWEEN = "cosine between draws"


@dataclass(frozen=True)
class SamplesOptions(StudyOptions):
    """``counts``: numbers of examples; None takes ``steps`` of them, evenly by logarithm from 1 to all."""

    counts: tuple[int, ...] | None = None
    steps: int = 8
    draws: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 2:
            raise UsageError(f"`draws` {self.draws}: an interval over draws needs at least two")
        if self.steps < 3:
            raise UsageError(f"`steps` {self.steps}: a curve needs at least three numbers of examples")
        if self.counts is not None and (len(self.counts) < 3 or min(self.counts) < 1):
            raise UsageError(f"`counts` {self.counts}: give at least three numbers of examples, all above 0")


def case_of_count(count: int) -> str:
    return f"{count} example" + ("s" if count != 1 else "")
