"""The chapter of ``docs/real-models.md`` on the autoencoder that ``sae.py`` trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal
from tillerman.reports.tables import markdown_table

HEAD = (
    "text, not trained on",
    "tokens",
    "variance explained, %",
    "L0",
    "atoms that never fire, %",
    "loss, nats",
    "spliced in",
    "without the activation",
    "recovered, %",
)


def autoencoder(file: Path) -> str:
    return of_figures(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else "Not run.\n"


def of_figures(made: Mapping[str, Any]) -> str:
    recipe, seconds, last = made["recipe"], made["cpu_seconds"], made["curve"][-1]
    rounds = recipe["steps"] * recipe["batch"] / made["tokens_read"]
    words = (
        f"{recipe['atoms']} atoms at `layers.{recipe['layer']}.resid_post`, BatchTopK with {recipe['active']} active "
        f"atoms a token; {made['tokens_read']} tokens read once, learnt from {decimal(rounds, 1)} times; "
        f"{sum(seconds.values()):.0f} CPU s of one thread ({seconds['reading']:.0f} to read, {seconds['learning']} to "
        f"learn, {seconds['measuring']} to measure). At the end of the training {last['dead']} atoms are dead."
    )
    rows = tuple(_row(name, one) for name, one in made["quality"].items())
    return f"{words}\n\n{markdown_table(Table('', HEAD, rows))}\n"


def _row(name: str, one: Mapping[str, float]) -> tuple[str, ...]:
    return (
        name,
        str(int(one["tokens"])),
        decimal(100 * (1 - one["unexplained"]), 1),
        decimal(one["l0"], 1),
        decimal(100 * one["silent"], 1),
        *(decimal(one[key], 2) for key in ("loss", "spliced", "without")),
        decimal(100 * one["recovered"], 1),
    )
