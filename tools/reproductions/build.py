"""Write the measured parts of ``docs/reproductions.md`` from the logs in ``benchmarks/reproductions``.

``python tools/reproductions/build.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check``
it only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. A log gets
there with ``--add NAME FOLDER...``, the folders that runs of ``tillerman reproduce NAME`` wrote; with ``--model LABEL``
it is one of a real model, whose verdicts stand beside those of the embedded one, under that name.
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path

from tillerman.logs.reproduction import ReproductionLog, merged
from tillerman.recipes.parse import SHIPPED, read_recipe
from tillerman.recipes.recipe import Recipe
from tillerman.recipes.report import to_markdown
from tillerman.recipes.verdicts import verdicts_on

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages
from packed import read_packed

PAGE = pages.ROOT / "docs" / "reproductions.md"
LOGS = pages.ROOT / "benchmarks" / "reproductions"
BESIDE = {
    "smollm2": "SmolLM2-135M-Instruct",
    "gemma3": "Gemma 3 270M (base)",
}  # real models, by what their logs are called


def main() -> None:
    parser = pages.asked(__doc__, "the logs of runs, as one", "NAME", "FOLDER", several=True)
    parser.add_argument("--model", choices=list(BESIDE), help="what the logs are of, if not of the embedded models")
    given = parser.parse_args()
    if given.add:
        add(given.add[0], [Path(folder) for folder in given.add[1:]], given.model)
    pages.write(__file__, made, check=given.check)


def add(name: str, folders: list[Path], model: str | None = None) -> None:
    LOGS.mkdir(exist_ok=True)
    whole = merged([read(json.loads((folder / "reproduction.json").read_bytes())) for folder in folders])
    text = json.dumps(whole.to_json())
    if model is not None:  # opened from a folder of the machine, which is nobody's business
        for there in {ran.model_id for ran in whole.ran}:
            text = text.replace(json.dumps(there)[1:-1], BESIDE[model])
    place_of(name, model).write_bytes(gzip.compress(text.encode(), mtime=0))


def place_of(name: str, model: str | None = None) -> Path:
    return LOGS / (f"{name}.{model}.json.gz" if model else f"{name}.json.gz")


def made() -> pages.Made:
    return {PAGE: pages.filled(PAGE, {name: measured(name) for name in SHIPPED})}


read = ReproductionLog.from_json


def measured(name: str) -> str:
    recipe, _ = read_recipe(name)
    beside = {title: place_of(name, model) for model, title in BESIDE.items()}
    others = {title: weighed(recipe, path) for title, path in beside.items() if path.exists()}
    return to_markdown(recipe, weighed(recipe, place_of(name)), others)


def weighed(recipe: Recipe, path: Path) -> ReproductionLog:
    """With the verdicts of the recipe as it is now."""
    log = read(read_packed(path))
    return replace(log, verdicts=verdicts_on(recipe, log.pieces, log.left_out))


if __name__ == "__main__":
    main()
