"""Write the measured parts of ``docs/real-models.md`` and README's table from the logs in ``benchmarks/real_models``.

``python tools/real_models/page.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check`` it
only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from autoencoder import autoencoder
from behaviours import DEFAULTS
from chapters import NAMES, chapters
from defaults import by_defaults
from first import first_table
from learned import read_sweep
from measured import Measured, pack, read, unpack

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "real-models.md"
README = ROOT / "README.md"
LOGS = ROOT / "benchmarks" / "real_models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the page is stale")
    parser.add_argument("--add", type=Path, metavar="OUT", help="take the logs of measure.py")
    args = parser.parse_args()
    if args.add:
        add(args.add)
    for path, parts in pages().items():
        old = path.read_text(encoding="utf-8")
        new = filled(old, parts, path.name)
        if not args.check:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            sys.exit(f"stale: {path.relative_to(ROOT)}; run 'python {Path(__file__).relative_to(ROOT)}'")


def add(folder: Path) -> None:
    """One file for each model; newer measurements take the place of older ones."""
    known = {one.key: one for one in (*committed(), *read(folder))}
    for model in dict.fromkeys(key[0] for key in known):
        pack(LOGS / f"{model}.json.gz", [one for key, one in known.items() if key[0] == model])


def committed() -> list[Measured]:
    return [one for path in sorted(LOGS.glob("*.json.gz")) for one in unpack(path)]


def pages() -> dict[Path, dict[str, str]]:
    """What each page holds, by the name of its marks."""
    many, plain = [], []
    for one in committed():
        (plain if one.method == DEFAULTS else many).append(one)
    parts = chapters(many, read_sweep(LOGS / "sweep.jsonl"))
    parts |= {"autoencoder": autoencoder(LOGS / "sae.json"), "defaults": by_defaults(plain, NAMES)}
    return {PAGE: parts, README: {"real model": first_table(many)}}


def filled(text: str, parts: Mapping[str, str], where: str) -> str:
    """A page with every measured part made anew."""
    for name, made in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"{where}: expected the marks {start} and {end} once each")
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n\n{made}\n{end}{after}"
    return text


if __name__ == "__main__":
    main()
