"""Write the measured parts of ``docs/forecast.md``, and the record that ``check`` quotes, from ``benchmarks/forecast``.

``python tools/forecast/page.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check`` it only
compares, and exits 1 where either is stale. What stands outside the marks is written by hand. Measurements get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from foretelling import MODELS, record_of
from measured import Measured, pack, read, unpack
from tables import parts

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "forecast.md"
LOGS = ROOT / "benchmarks" / "forecast"
RECORD = ROOT / "src" / "tillerman" / "reports" / "forecast_record.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if page or record is stale")
    parser.add_argument("--add", type=Path, metavar="OUT", help="take the files of measure.py")
    args = parser.parse_args()
    if args.add:
        add(args.add)
    for path, made in written().items():
        if not args.check:
            path.write_text(made, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != made:
            sys.exit(f"stale: {path.relative_to(ROOT)}; run 'python {Path(__file__).relative_to(ROOT)}'")


def add(folder: Path) -> None:
    """One file for each model; newer measurements take the place of older ones."""
    known = {one.key: one for one in (*committed(), *read(folder))}
    for model in dict.fromkeys(key[0] for key in known):
        pack(LOGS / f"{model}.json.gz", [one for key, one in known.items() if key[0] == model])


def committed() -> list[Measured]:
    return [one for path in sorted(LOGS.glob("*.json.gz")) for one in unpack(path)]


def written() -> dict[Path, str]:
    """What the page and the record hold, made anew."""
    many = committed()
    models = [name for name in MODELS if any(one.model == name for one in many)]
    records = [record_of(name, [one for one in many if one.model == name]) for name in models]
    text = json.dumps([asdict(one) for one in records if one is not None], indent=1) + "\n"
    return {PAGE: filled(PAGE.read_text(encoding="utf-8"), parts(many)), RECORD: text}


def filled(text: str, made: dict[str, str]) -> str:
    for name, part in made.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"{PAGE.name}: expected the marks {start} and {end} once each")
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n\n{part}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    main()
