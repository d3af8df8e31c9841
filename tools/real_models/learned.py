"""What the defaults of a search go by: where to read, at which layers, from where to steer and how strongly. Learned on
half of the behaviours of each kind, and looked up on the other half."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from behaviours import ANSWERED, BEHAVIOURS, WRITTEN

from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal
from tillerman.reports.tables import markdown_table

LEARNED_ON = ("pirate", "gloomy", "courteous", "french", "agreeableness", "extraversion", "conscientiousness")
KINDS = {
    "written": "ways of writing, mean score of the replies",
    "answered": "yes/no personas, mean log-odds of the right answer in nats",
}
FACTORS = {"read": "read at", "scope": "scope", "place": "layers"}
BUDGETS = {"written": WRITTEN.constraints, "answered": ANSWERED.constraints}
MIDDLE = "middle"  # as sweep.py says of the layers together
Setting = tuple[str, ...]  # by FACTORS
Changes = dict[str, dict[Setting, float]]  # by behaviour


def learned(swept: Sequence[Mapping[str, object]], titles: Mapping[str, str]) -> str:
    """A table for each model and kind: the marginal means of every level, and what the best setting does."""
    parts = []
    for model in dict.fromkeys(str(row["model"]) for row in swept):
        for kind, words in KINDS.items():
            found = {
                str(row["behaviour"]): _changes(row, BUDGETS[kind])
                for row in swept
                if row["model"] == model and BEHAVIOURS[str(row["behaviour"])].kind == kind
            }
            if found:
                parts += _of_kind(f"{titles.get(model, model)}, {words}", found)
    return "\n\n".join(parts or ["Not run."]) + "\n"


def read_sweep(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _changes(row: Mapping[str, object], limits: Mapping[str, float]) -> dict[Setting, float]:
    """Of every setting at the largest of its doses that keeps the budget on the whole of the neutral text; 0 where none
    does, for a search then steers nothing."""
    unsteered, settings = float(str(row["unsteered"])), row["settings"]
    assert isinstance(settings, list)
    found: dict[Setting, float] = {}
    for one in sorted(settings, key=lambda one: one["share"]):
        setting = tuple(str(one[name]) for name in FACTORS)
        found.setdefault(setting, 0.0)
        if all(one[name] <= limit for name, limit in limits.items()):
            found[setting] = one["score"] - unsteered
    return found


def _of_kind(title: str, found: Changes) -> list[str]:
    halves = {
        "learned on": {name: of for name, of in found.items() if name in LEARNED_ON},
        "kept for the test": {name: of for name, of in found.items() if name not in LEARNED_ON},
    }
    head = [f"{half}: {', '.join(of) or 'none'}" for half, of in halves.items()]

    def shown(of: Changes, wanted: Callable[[Setting], bool]) -> str:
        values = [value for one in of.values() for setting, value in one.items() if wanted(setting)]
        return decimal(float(np.mean(values)), 2, signed=True) if values else "not run"

    rows = []
    for k, name in enumerate(FACTORS):
        levels = sorted({setting[k] for one in found.values() for setting in one})
        for level in levels:
            cells = [shown(of, lambda setting, k=k, level=level: setting[k] == level) for of in halves.values()]  # type: ignore[misc]
            rows.append((FACTORS[name], _named(name, level), *cells))
    for half, words in (("learned on", "on the first half"), ("kept for the test", "on the second, seen afterwards")):
        best, count = _best(halves[half])
        if best is not None:
            named = ", ".join(_named(name, level) for name, level in zip(FACTORS, best, strict=True))
            cells = [shown(of, lambda setting, best=best: setting == best) for of in halves.values()]  # type: ignore[misc]
            rows.append((f"the best of {count} {words}", named, *cells))
    rows.append(("all", "", *(shown(of, lambda setting: True) for of in halves.values())))
    return [
        f"{title}: change on validation rows, mean over settings and behaviours",
        markdown_table(_table(head, rows)),
    ]


def _best(of: Changes) -> tuple[Setting | None, int]:
    """The setting with the largest mean change, of those that ran on every behaviour."""
    if not of:
        return None, 0
    common = set.intersection(*(set(one) for one in of.values()))
    means = {setting: float(np.mean([one[setting] for one in of.values()])) for setting in sorted(common)}
    return max(means, key=lambda setting: means[setting], default=None), len(means)


def _named(factor: str, level: str) -> str:
    if factor != "place":
        return f"`{level}`" if factor in ("read", "scope") else level
    return "20 to 80 % of the depth together" if level == MIDDLE else f"one, at {float(level) * 100:.0f} % of the depth"


def _table(head: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    return Table("", ("", "", *head), tuple(rows))
