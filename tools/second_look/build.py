"""Write the measured part of ``docs/second-look.md`` from the log in ``benchmarks/second_look``.

``python tools/second_look/build.py`` writes it between ``<!-- cache-steering -->`` and ``<!-- /cache-steering -->``;
with ``--check`` it only compares, and exits 1 where the page is stale. What stands outside the marks is written by
hand. ``--add FILE`` takes the ``restest.json`` of a run of ``tillerman restest``: counts of items, no item.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tillerman.evaluation.second_look import look_again
from tillerman.logs.second_look import SecondLookLog
from tillerman.reports.second_look import account
from tillerman.reports.tables import to_markdown

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "second-look.md"
LOG = ROOT / "benchmarks" / "second_look" / "cache-steering.json"
START, END = "<!-- cache-steering -->", "<!-- /cache-steering -->"
CLAIMED = "cache"  # the condition that the paper is about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if the page is stale")
    parser.add_argument("--add", type=Path, metavar="FILE", help="take the log of a run")
    args = parser.parse_args()
    if args.add:
        SecondLookLog.read(args.add).write(LOG)
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if not args.check:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit(f"stale: docs/second-look.md; run 'python {Path(__file__).relative_to(ROOT)}'")


def page(text: str) -> str:
    """The page with its measured part made anew: all conditions, and the claimed one among fewer tests."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    log = SecondLookLog.read(LOG)
    alone, whole = account(look_again(log, conditions=[CLAIMED])), account(log)
    alone = replace(alone, title="Cache steering alone", tables=alone.tables[-2:], sentences=())
    whole = replace(whole, title="Every condition, file by file")
    return f"{before}{START}\n\n{to_markdown(alone)}\n{to_markdown(whole)}\n{END}{after}"


if __name__ == "__main__":
    main()
