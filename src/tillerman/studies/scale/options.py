"""What the study of scale can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.studies.options import StudyOptions

SIZE, BYTES, STEERED = "parameters", "bytes per token", "steered"


@dataclass(frozen=True)
class ScaleOptions(StudyOptions):
    """``models``: names or folders, beside the artefact's own; None takes the other embedded ones. ``doses``: where
    costs are measured. ``characters`` of neutral text."""

    models: tuple[str, ...] | None = None
    doses: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    draws: int = 4  # random directions at the chosen dose
    characters: int = 12_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.doses) < 2 or min(self.doses) <= 0:
            raise UsageError(f"`doses` {self.doses}: give at least two, all above 0")
        if self.draws < 2:
            raise UsageError(f"`draws` {self.draws}: an interval over draws needs at least two")


def at_dose(dose: float) -> str:
    return f"dose {dose:g}"
