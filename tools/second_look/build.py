"""Write the measured part of ``docs/second-look.md`` from the log in ``benchmarks/second_look``.

``python tools/second_look/build.py`` writes it between ``<!-- cache-steering -->`` and ``<!-- /cache-steering -->``;
with ``--check`` it only compares, and exits 1 where the page is stale. What stands outside the marks is written by
hand. ``--add FILE`` takes the ``restest.json`` of a run of ``tillerman restest``: counts of items, no item.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tillerman.evaluation.second_look import look_again
from tillerman.logs.second_look import SecondLookLog
from tillerman.reports.second_look import account
from tillerman.reports.tables import to_markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages

PAGE = pages.ROOT / "docs" / "second-look.md"
LOG = pages.ROOT / "benchmarks" / "second_look" / "cache-steering.json"
CLAIMED = "cache"  # the condition that the paper is about


def main() -> None:
    given = pages.asked(__doc__, "the log of a run", "FILE").parse_args()
    if given.add:
        SecondLookLog.read(given.add).write(LOG)
    pages.write(__file__, made, check=given.check)


def made() -> pages.Made:
    """All conditions, and the claimed one among fewer tests."""
    log = SecondLookLog.read(LOG)
    alone, whole = account(look_again(log, conditions=[CLAIMED])), account(log)
    alone = replace(alone, title="Cache steering alone", tables=alone.tables[-2:], sentences=())
    whole = replace(whole, title="Every condition, file by file")
    return {PAGE: pages.filled(PAGE, {"cache-steering": f"{to_markdown(alone)}\n{to_markdown(whole)}"})}


if __name__ == "__main__":
    main()
