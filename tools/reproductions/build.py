"""Write the measured parts of ``docs/reproductions.md`` from the logs in ``benchmarks/reproductions``.

``python tools/reproductions/build.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check``
it only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. A log gets
there with ``--add NAME FOLDER...``, the folders that runs of ``tillerman reproduce NAME`` wrote; with ``--model LABEL``
it is one of a real model, whose verdicts stand beside those of the embedded one, under that name.
"""

from __future__ import annotations

import argparse
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

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reproductions.md"
LOGS = ROOT / "benchmarks" / "reproductions"
BESIDE = {"smollm2": "SmolLM2-135M-Instruct"}  # real models, by what their logs are called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the page is stale")
    parser.add_argument("--add", nargs="+", metavar=("NAME", "FOLDER"), help="take the logs of runs, as one")
    parser.add_argument("--model", choices=list(BESIDE), help="what the logs are of, if not of the embedded models")
    args = parser.parse_args()
    if args.add:
        add(args.add[0], [Path(folder) for folder in args.add[1:]], args.model)
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if not args.check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"stale: docs/reproductions.md; run 'python {Path(__file__).relative_to(ROOT)}'")


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


def page(text: str) -> str:
    """The page with every measured part made anew."""
    for name in SHIPPED:
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n\n{measured(name)}\n{end}{after}"
    return text


read = ReproductionLog.from_json


def measured(name: str) -> str:
    recipe, _ = read_recipe(name)
    beside = {title: place_of(name, model) for model, title in BESIDE.items()}
    others = {title: weighed(recipe, path) for title, path in beside.items() if path.exists()}
    return to_markdown(recipe, weighed(recipe, place_of(name)), others)


def weighed(recipe: Recipe, path: Path) -> ReproductionLog:
    """With the verdicts of the recipe as it is now."""
    log = read(json.loads(gzip.decompress(path.read_bytes())))
    return replace(log, verdicts=verdicts_on(recipe, log.pieces, log.left_out))


if __name__ == "__main__":
    main()
