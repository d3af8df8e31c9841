"""What an export or an import did, in words."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.table import Table
from tillerman.reports.numbers import compact, decimal, percent, shown_number
from tillerman.statistics.values import MeanEffect

USED = {  # folders, FILE their name
    "hf-model": "transformers.AutoModelForCausalLM.from_pretrained('FILE'); it needs no Tillerman",
    "peft": "peft.PeftModel.from_pretrained(model, 'FILE')",
}


def exported_words(cell: str, dose: float, file: str, tool: str, used: str, *, factor: bool) -> tuple[str, ...]:
    """One line of what the file holds, one of how its tool takes it."""
    held = "as its scale" if factor else "in the numbers"
    return (
        f"{file}: for {tool}; adds at {cell}, dose {compact(dose)}; the strength is {held}",
        f"use: {used.replace('FILE', file)}",
    )


def parity_words(n: int, kl: float, largest: float, same: float, moved: float) -> str:
    """From prompts, KL to ``steer``, largest difference of log-probabilities, share of equal tokens, KL of steering."""
    return (
        f"parity with steer after {n} prompts: KL {compact_small(kl)} nats per token, largest difference of a "
        f"log-probability {compact_small(largest)}, same next token after {percent(same)}; steering itself makes KL "
        f"{compact_small(moved)}"
    )


def compact_small(value: float) -> str:
    """Two digits, however small."""
    return "0" if value == 0 else f"{value:.1e}" if abs(value) < 1e-3 else compact(value)


def cost_table(n: int, rows: tuple[tuple[str, float, float], ...]) -> Table:
    """From condition, share of right answers and mean lead of each."""
    cells = tuple((name, percent(right), decimal(lead, 2)) for name, right, lead in rows)
    return Table(
        f"What the change costs, on {n} items", ("condition", "right answers", "lead of the right one, nats"), cells
    )


def difference_words(value: float, low: float, high: float) -> str:
    """Exported minus fitted."""
    interval = f"95 % interval {decimal(low, 2)} to {decimal(high, 2)}"
    return f"exported minus fitted: {decimal(value, 2)} nats ({interval})"


def readings_table(n: int, rows: Sequence[tuple[str, MeanEffect, float]]) -> Table:
    """From each reading of a file and what it does to the lead of the right answer, the best first,
    and the cosine to what tells answers apart there."""
    cells = tuple(
        (words, shown_number(e.value, e.interval, signed=True), decimal(close, 3)) for words, e, close in rows
    )
    return Table(
        f"Readings of the file, on {n} items",
        ("convention, sign", "lead of the right answer, nats", "closeness"),
        cells,
    )
