"""What an attack can be asked, and the names of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.studies.options import StudyOptions

STEERED, PROMPT, RANDOM, PROMPT_RANDOM, NATURAL = (
    "steered",
    "prompt",
    "random text",
    "prompt, random text",
    "other text",
)
AFTER, MARGIN, FIRST, LIKELIEST, USUAL = (
    "after ",
    "margin after ",
    "first reversal",
    "likeliest reversal",
    "other texts",
)
FRONT_F, FRONT_X, TRANSFER = "front, margin", "front, cross-entropy", "transfer: "
WITH, WITHOUT = "with the text", "without"


@dataclass(frozen=True)
class AttackOptions(StudyOptions):
    """``limit`` items are attacked by texts of so many ``tokens``, a population of ``members``, each with
    ``children`` per iteration from the ``top`` tokens by gradient; see ``EpoOptions``. ``draws``: random vectors that
    found texts are tried on."""

    limit: int = 20
    tokens: int = 8
    members: int = 4
    iterations: int = 16
    children: int = 8
    top: int = 256
    restart: int = 8
    draws: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tokens", "members", "iterations", "children", "top", "restart"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: expected at least 1")

    @property
    def candidates(self) -> int:
        """Texts that the search tries, the first population included."""
        return self.members * (1 + self.iterations * self.children)
