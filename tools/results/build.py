"""Write the tables of ``docs/results.md`` from the log in ``benchmarks/comparison.json.gz``.

``python tools/results/build.py`` writes them between ``<!-- comparison -->`` and ``<!-- /comparison -->``; with
``--check`` it only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand.
``--add FILE`` takes the log of a run, the ``results.json`` of ``benchmarks/compare_methods.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tillerman.logs.comparison import ComparisonLog
from tillerman.reports.comparison import to_markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages
from packed import read_packed, write_packed

PAGE = pages.ROOT / "docs" / "results.md"
LOG = pages.ROOT / "benchmarks" / "comparison.json.gz"


def main() -> None:
    given = pages.asked(__doc__, "the log of a run", "FILE").parse_args()
    if given.add:
        log = ComparisonLog.from_json(json.loads(given.add.read_bytes()))
        write_packed(LOG, log.to_json())
    pages.write(__file__, made, check=given.check)


def made() -> pages.Made:
    log = ComparisonLog.from_json(read_packed(LOG))
    return {PAGE: pages.filled(PAGE, {"comparison": to_markdown(log)})}


if __name__ == "__main__":
    main()
