"""What the study of transfer can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.precisions import PRECISIONS
from tillerman.studies.options import StudyOptions

HOME, TUNED = "at home", "fine-tuned on the training items"
OWN, DOSE, NORM, COSINE = "own vector", "dose", "stream norm", "cosine"


@dataclass(frozen=True)
class TransferOptions(StudyOptions):
    """``to``: other checkpoints, names or folders. ``precisions`` of the home model; None takes what can be made here
    where nothing else is asked for. ``tuned``: a copy of the home model, fine-tuned (LoRA) on the training items."""

    to: tuple[str, ...] = ()
    precisions: tuple[str, ...] | None = None
    tuned: bool = False
    draws: int = 4  # random directions

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 2:
            raise UsageError(f"`draws` {self.draws}: an interval over draws needs at least two")
        for precision in self.precisions or ():
            if precision not in PRECISIONS:
                raise UnknownNameError("precision", precision, PRECISIONS)
