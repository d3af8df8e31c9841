"""``tillerman reproduce``: one recipe, its files, and what the console shows of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tillerman.cli.options import ModelChoice
from tillerman.cli.views import table_view
from tillerman.cli.watch import BarWatch
from tillerman.core.errors import ArtefactError
from tillerman.core.files import write_text
from tillerman.core.store import Store
from tillerman.logs.reproduction import ReproductionLog
from tillerman.recipes.parse import read_recipe
from tillerman.recipes.recipe import Recipe
from tillerman.recipes.report import claims_table, run_lines, summary, tables_of, to_markdown
from tillerman.recipes.run import Request, reproduce
from tillerman.recipes.verdicts import verdicts_on

LOG = "reproduction.json"
PIECES = "pieces"  # what is finished; kept, so that more seeds or items go on from there


def run_reproduce(
    source: str, request: Request, models: Sequence[ModelChoice], out: Path, console: Console
) -> tuple[Recipe, ReproductionLog]:
    """Run a recipe and write its log and tables into ``out``."""
    recipe = read_recipe(source)
    out.mkdir(exist_ok=True)
    store = Store(out / PIECES, "reproduction")
    if store.resumed:
        console.print(f"going on from {store.resumed} finished pieces", highlight=False)
    try:
        opened = [model.open() for model in models]
        log = reproduce(recipe, opened, request, store=store, watch=BarWatch(console))
    finally:
        store.close(finished=False)
    write_reproduction(recipe[0], log, out)
    return recipe[0], log


def render_again(source: str, out: Path) -> tuple[Recipe, ReproductionLog]:
    """Tables and verdicts made anew from a log that is there; no model is needed."""
    recipe, digest = read_recipe(source)
    log = read_reproduction(out / LOG)
    if log.recipe != recipe.name:
        raise ArtefactError(f"{out / LOG}: a log of the recipe {log.recipe}, not of {recipe.name}")
    log = replace(log, verdicts=verdicts_on(recipe, log.pieces, log.left_out), recipe_digest=digest)
    write_reproduction(recipe, log, out)
    return recipe, log


def read_reproduction(path: Path) -> ReproductionLog:
    try:
        return ReproductionLog.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: no log of a reproduction ({error}); 'tillerman reproduce' writes one") from None


def write_reproduction(recipe: Recipe, log: ReproductionLog, out: Path) -> None:
    write_text(out / LOG, json.dumps(log.to_json()))
    write_text(out / "reproduction.md", f"# {recipe.title}\n\n{recipe.paper}\n\n{to_markdown(recipe, log)}")


def print_reproduction(console: Console, recipe: Recipe, log: ReproductionLog) -> None:
    console.print(f"{recipe.title}: {recipe.paper.replace('*', '')}", highlight=False, markup=False)
    for table in (*tables_of(recipe, log), claims_table(recipe, log)):
        console.print(table_view(table))
    for line in run_lines(recipe, log):
        console.print(line, highlight=False, markup=False)
    console.print(summary(log), style="bold", highlight=False, markup=False)
