"""Write the measured parts of ``docs/real-models.md`` from the logs in ``benchmarks/real_models``.

``python tools/real_models/page.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check`` it
only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autoencoder import autoencoder
from chapters import chapters
from learned import read_sweep
from measured import Measured, pack, read, unpack

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "real-models.md"
LOGS = ROOT / "benchmarks" / "real_models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the page is stale")
    parser.add_argument("--add", type=Path, metavar="OUT", help="take the logs of measure.py")
    args = parser.parse_args()
    if args.add:
        add(args.add)
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if not args.check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"stale: docs/real-models.md; run 'python {Path(__file__).relative_to(ROOT)}'")


def add(folder: Path) -> None:
    """One file for each model; newer measurements take the place of older ones."""
    known = {one.key: one for one in (*committed(), *read(folder))}
    for model in dict.fromkeys(key[0] for key in known):
        pack(LOGS / f"{model}.json.gz", [one for key, one in known.items() if key[0] == model])


def committed() -> list[Measured]:
    return [one for path in sorted(LOGS.glob("*.json.gz")) for one in unpack(path)]


def page(text: str) -> str:
    """The page with every measured part made anew."""
    parts = chapters(committed(), read_sweep(LOGS / "sweep.jsonl"))
    for name, made in (parts | {"autoencoder": autoencoder(LOGS / "sae.json")}).items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"docs/real-models.md: expected the marks {start} and {end} once each")
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n\n{made}\n{end}{after}"
    return text


if __name__ == "__main__":
    main()
