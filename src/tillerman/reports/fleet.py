"""What came of many fits, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tillerman.logs.table import Table


def fits_table(fits: Sequence[tuple[str, Mapping[str, Any] | None, str]]) -> Table:
    """``fits`` has name, card (``tillerman fit --json``) and, where there is no card, why."""
    rows = [(name, "failed", why, "") if card is None else (name, *_told(card)) for name, card, why in fits]
    return Table("Fits", ("job", "effect, pp", "chosen", "verdict"), tuple(rows))


def _told(card: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = card["interval"]
    effect = f"{100 * card['effect']:+.0f}"
    if low is not None and high is not None:
        effect += f" ({100 * low:+.0f} to {100 * high:+.0f})"
    dose = f", dose {card['dose']:.2g}" if card["dose"] else ""
    return effect, f"{card['method']}, {card['hook_point']}{dose}", str(card["verdict"])
