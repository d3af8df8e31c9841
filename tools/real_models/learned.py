"""What the defaults of a search for what is written go by: where to read, at which layers and doses, and from where to
steer.

Only validation prompts are looked at. No behaviour was kept apart to test the choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from measured import Measured

from tillerman.logs.evaluation import SearchedCell
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, percent
from tillerman.reports.tables import markdown_table

LEARNED_ON = ("pirate", "gloomy", "courteous", "french")


def learned(many: Sequence[Measured], swept: Sequence[Mapping[str, object]]) -> str:
    parts = []
    for model in dict.fromkeys(one.model for one in many):
        searched = {
            one.behaviour: (one.log.cells, str(one.log.provenance.get("read_positions", "")))
            for one in many
            if one.model == model and one.method == "caa" and one.behaviour in LEARNED_ON and one.log is not None
        }
        if searched:
            named = ", ".join(name for name in LEARNED_ON if name in searched)
            parts.append(
                f"{model}, scope `all`: mean score of validation replies, as far as they are no loops, over "
                f"{named} (dose 0: unsteered):"
            )
            parts.append(markdown_table(_cells(searched)))
    if swept:
        parts.append(_of_scopes(swept))
    return "\n\n".join(parts or ["Not run."]) + "\n"


def read_sweep(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _cells(searched: Mapping[str, tuple[tuple[SearchedCell, ...], str]]) -> Table:
    values: dict[tuple[str, float], dict[str, list[float]]] = {}
    for cells, _ in searched.values():
        for cell in cells:
            if cell.written is not None:
                read = (cell.read or "mean") if cell.strength else "any"
                row = values.setdefault((read, round(cell.dose, 2)), {})
                row.setdefault(cell.hook_point if cell.strength else "", []).append(cell.written)
    places = sorted({place for row in values.values() for place in row if place}, key=lambda p: int(p.split(".")[1]))
    rows = []
    for (read, dose), row in sorted(values.items(), key=lambda pair: (pair[0][1], pair[0][0])):
        shown = [_mean(row.get(place, row.get("", []))) for place in places]
        rows.append((read, decimal(dose), *shown))
    return Table("", ("read at", "dose", *places), tuple(rows))


def _mean(values: Sequence[float]) -> str:
    return decimal(sum(values) / len(values)) if values else ""


def _of_scopes(swept: Sequence[Mapping[str, object]]) -> str:
    """Scopes at the same reading, layer and dose, whose cost on neutral text is the same."""
    rows = []
    keys = dict.fromkeys((row["behaviour"], row["read"], row["layer"], row["dose"]) for row in swept)
    for key in keys:
        of = {
            str(row["scope"]): row for row in swept if (row["behaviour"], row["read"], row["layer"], row["dose"]) == key
        }
        cells = [_swept(of.get(scope)) for scope in ("after_instruction", "all")]
        kl = next((row["kl"] for row in of.values() if row["kl"] is not None), None)
        rows.append(
            (str(key[0]), str(key[1]), str(key[2]), str(key[3]), *cells, "" if kl is None else decimal(float(str(kl))))
        )
    head = ("behaviour", "read at", "layer", "dose", "after_instruction", "all", "KL, nats")
    words = (
        "Scope, four validation prompts a cell (SmolLM2-135M-Instruct): mean score of the replies, and in brackets how "
        "much of them was there before and how many of them show the behaviour:"
    )
    return f"{words}\n\n{markdown_table(Table('', head, tuple(rows)))}"


def _swept(row: Mapping[str, object] | None) -> str:
    if row is None:
        return "not run"
    score, again, shown = (float(str(row[name])) for name in ("score", "repeated", "shown"))
    return f"{decimal(score)} ({percent(again, 0)}, {percent(shown, 0)})"
