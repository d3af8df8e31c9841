"""``tillerman export-task``."""

from __future__ import annotations

import re
from pathlib import Path

from tillerman.data.duplicates import clean_split
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import as_choices, present
from tillerman.data.writing import make_writer
from tillerman.harnesses.export import export_task
from tillerman.models.opened import open_model


def run_export(
    data: LoadedData,
    folder: Path,
    model: str,
    reading: tuple[str, str | None],
    split: tuple[tuple[float, float, float] | None, int],
    *,
    as_choice: bool,
) -> tuple[Path, ...]:
    """``reading`` is template and system prompt; ``split`` is the shares (None: all items) and the seed."""
    template, system = reading
    shares, seed = split
    examples = as_choices(data.examples) if as_choice else data.examples
    items = present(examples if shares is None else clean_split(examples, shares=shares, seed=seed).test, seed)
    writer = make_writer(open_model(model).tokenizer, template).with_system(system)
    return export_task(items, writer, folder, re.sub(r"\W+", "_", data.name).strip("_") or "items")
