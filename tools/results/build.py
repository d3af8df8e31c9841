"""Write the tables of ``docs/results.md`` from the log in ``benchmarks/comparison.json.gz``.

``python tools/results/build.py`` writes them between ``<!-- comparison -->`` and ``<!-- /comparison -->``; with
``--check`` it only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand.
``--add FILE`` takes the log of a run, the ``results.json`` of ``benchmarks/compare_methods.py``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

from tillerman.logs.comparison import ComparisonLog
from tillerman.reports.comparison import to_markdown

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
LOG = ROOT / "benchmarks" / "comparison.json.gz"
START, END = "<!-- comparison -->", "<!-- /comparison -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the page is stale")
    parser.add_argument("--add", type=Path, metavar="FILE", help="take the log of a run")
    args = parser.parse_args()
    if args.add:
        log = ComparisonLog.from_json(json.loads(args.add.read_bytes()))
        LOG.write_bytes(gzip.compress(json.dumps(log.to_json()).encode(), mtime=0))
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if not args.check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"stale: docs/results.md; run 'python {Path(__file__).relative_to(ROOT)}'")


def page(text: str) -> str:
    """The page with its tables made anew."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    log = ComparisonLog.from_json(json.loads(gzip.decompress(LOG.read_bytes())))
    return f"{before}{START}\n\n{to_markdown(log)}\n{END}{after}"


if __name__ == "__main__":
    main()
