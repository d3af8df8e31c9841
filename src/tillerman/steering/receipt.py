"""What really happened inside a steering block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Applied:
    """One intervention's record: tokens changed per hook point, over all passes, and the dose used."""

    strength: float
    operator: str
    scope: str
    tokens: Mapping[str, int]
    doses: Mapping[str, float]

    @property
    def touched(self) -> bool:
        return all(count > 0 for count in self.tokens.values())


@dataclass(frozen=True)
class Receipt:
    """``forwards`` counts the passes of the decoder; ``warnings`` names allowed mismatches."""

    forwards: int
    applied: tuple[Applied, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.forwards} forward passes"]
        for record in self.applied:
            for point, count in record.tokens.items():
                lines.append(
                    f"{record.operator} at {point}: {count} tokens, strength {record.strength:g}, "
                    f"dose {record.doses[point]:.2f}, scope {record.scope}"
                )
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])
