"""What a command says of its time before it starts."""

from __future__ import annotations

from collections.abc import Mapping

MATTERS = 30.0  # seconds: a shorter run needs no advice
_LARGE = 0.2  # of the whole: a part worth naming
# What makes a part shorter, as the command line says it.
_SHORTER = {
    "search": "--budget 1m or fewer --layers (the search)",
    "vectors": "--read usual or --max-train (the vectors)",
    "doses": "--doses 0.2,0.3 (the search for doses)",
    "side effects": "fewer tokens of --neutral text (side effects)",
    "test": "--prompt TEXT and --shots 0 (the test)",
    "written replies": "--written-prompts 0 (written replies)",
}


def forecast_words(parts: Mapping[str, float], *, fast: bool) -> str:
    """About how long, what takes longest, and what would make that shorter."""
    whole = sum(parts.values())
    if whole < MATTERS:
        return f"This will take about {_spoken(whole)}."
    large = [name for name, seconds in parts.items() if seconds > _LARGE * whole]
    named = ", ".join(f"{name} {_spoken(parts[name])}" for name in large)
    ways = [*(() if fast else ("--fast (the vector and one held-out check)",)), *(_SHORTER[name] for name in large)]
    return f"This will take about {_spoken(whole)} ({named}). Shorter: {'; '.join(ways)}."


def _spoken(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
