"""Write the measured part of ``docs/make.md`` from the log in ``benchmarks/making``.

``python tools/making/page.py`` writes it between ``<!-- measured -->`` and ``<!-- /measured -->``; with ``--check`` it
only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tried import Tried, pack, read, unpack
from words import chapter

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "make.md"
LOG = ROOT / "benchmarks" / "making" / "smollm2.json.gz"
START, END = "<!-- measured -->", "<!-- /measured -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the page is stale")
    parser.add_argument("--add", type=Path, metavar="OUT", help="take the logs of measure.py")
    args = parser.parse_args()
    if args.add:
        known = {one.case: one for one in (*committed(), *read(args.add))}
        pack(LOG, list(known.values()))
    old = PAGE.read_text(encoding="utf-8")
    new = filled(old, chapter(committed()))
    if not args.check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"stale: {PAGE.relative_to(ROOT)}; run 'python {Path(__file__).relative_to(ROOT)}'")


def committed() -> list[Tried]:
    return unpack(LOG) if LOG.exists() else []


def filled(text: str, made: str) -> str:
    """The page with its measured part made anew."""
    if text.count(START) != 1 or text.count(END) != 1:
        sys.exit(f"{PAGE.name}: expected the marks {START} and {END} once each")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{made}\n{END}{after}"


if __name__ == "__main__":
    main()
