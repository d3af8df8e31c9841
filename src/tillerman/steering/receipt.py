"""What really happened inside a steering block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tillerman.core.shown import Shown


@dataclass(frozen=True)
class Applied:
    """One intervention's record: tokens changed per hook point, over all passes, and the dose used.

    ``doses`` is empty for operators whose strength is no multiple of v. ``row`` is the plan's place under
    ``steer_rows``. Tokens behind a shut gate are not counted.
    """

    strength: float
    operator: str
    scope: str
    tokens: Mapping[str, int]
    doses: Mapping[str, float]
    row: int | None = None
    gate: str = ""

    @property
    def touched(self) -> bool:
        return all(count > 0 for count in self.tokens.values())


@dataclass(frozen=True, repr=False)
class Receipt(Shown):
    """``forwards`` counts the passes of the decoder; ``warnings`` names allowed mismatches."""

    forwards: int
    applied: tuple[Applied, ...]
    warnings: tuple[str, ...] = ()

    def shown(self) -> dict[str, object]:
        """Of several interventions the first ones; ``str`` has all."""
        lines = str(self).splitlines()
        return {"passes": self.forwards, "interventions": len(self.applied), "first": "; ".join(lines[1:4])} | (
            {"warnings": "; ".join(self.warnings)} if self.warnings else {}
        )

    def __str__(self) -> str:
        lines = [f"{self.forwards} forward passes"]
        for record in self.applied:
            for point, count in record.tokens.items():
                row = "" if record.row is None else f"row {record.row}: "
                dose = f", dose {record.doses[point]:.2f}" if point in record.doses else ""
                gate = f", gate {record.gate}" if record.gate else ""
                lines.append(
                    f"{row}{record.operator} at {point}: {count} tokens, strength {record.strength:g}"
                    f"{dose}, scope {record.scope}{gate}"
                )
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])
