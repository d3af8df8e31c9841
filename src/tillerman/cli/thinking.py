"""A log of thoughts as tables and words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tillerman.cli.views import NAMES, percent, points, span
from tillerman.logs.thoughts import Mean, Thinking, ThoughtLog
from tillerman.statistics.values import Effect


def thoughts_table(rows: Sequence[Thinking], title: str) -> Table:
    """Two lines per row, 80 columns: figures, and below them their changes with intervals."""
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("condition", no_wrap=True)
    for head in ("at", "thought, tokens", "no\nrepeats", "right, %", "un-\nended"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            NAMES.get(row.name, row.name),
            f"{row.strength:.2g}",
            f"{row.length.value:.1f}" + ("" if row.change is None else f"\n[dim]{_change(row.change)}"),
            f"{row.stripped.value:.1f}",
            ("" if row.right is None else percent(row.right))
            + ("" if row.effect is None else f"\n[dim]{_effect(row.effect)}"),
            percent(row.unfinished),
        )
    return table


def _change(mean: Mean) -> str:
    return f"{mean.value:+.1f} ({mean.interval.low:+.0f} to {mean.interval.high:+.0f})"


def _effect(effect: Effect) -> str:
    low, high = effect.interval.low, effect.interval.high
    return f"{points(effect.value)} ({100 * low:+.0f} to {100 * high:+.0f})"


def thoughts_facts(log: ThoughtLog) -> list[str]:
    system = "" if log.system is None else f", under the system prompt {log.system!r}"
    told = log.condition("prompt").detail
    cell = f"{log.method} at {log.hook_point}, strength {log.strength:.3g} (dose {log.dose:.2f}), scope {log.scope}"
    return [
        f"{cell}{system}; replies of at most {log.limit} tokens",
        f"prompt baseline: {told}",
        *(f"note: {note}" for note in log.notes),
    ]


def thoughts_verdict(log: ThoughtLog) -> str:
    row = log.condition("steered")
    assert row.change is not None  # compared with unsteered
    low, high = row.change.interval.low, row.change.interval.high
    moved = "shorter" if high < 0 else "longer" if low > 0 else "no shorter and no longer"
    numbers = f"{tokens(row.change)} tokens, n = {row.change.n}"
    if row.effect is None:
        return f"Thoughts are {moved}: {numbers}."
    return (
        f"Thoughts are {moved}: {numbers}; right answers {points(row.effect.value)} pp ({span(row.effect.interval)})."
    )


def tokens(mean: Mean) -> str:
    return f"{mean.value:+.1f} ({mean.interval.low:+.1f} to {mean.interval.high:+.1f})"
