"""Write the measured part of ``docs/make.md`` from the log in ``benchmarks/making``.

``python tools/making/page.py`` writes it between ``<!-- measured -->`` and ``<!-- /measured -->``; with ``--check`` it
only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tried import Tried, pack, read, unpack
from words import chapter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages

PAGE = pages.ROOT / "docs" / "make.md"
LOG = pages.ROOT / "benchmarks" / "making" / "smollm2.json.gz"


def main() -> None:
    given = pages.asked(__doc__, "the logs of measure.py", "OUT").parse_args()
    if given.add:
        known = {one.case: one for one in (*committed(), *read(given.add))}
        pack(LOG, list(known.values()))
    pages.write(__file__, made, check=given.check)


def committed() -> list[Tried]:
    return unpack(LOG) if LOG.exists() else []


def made() -> pages.Made:
    return {PAGE: pages.filled(PAGE, {"measured": chapter(committed())})}


if __name__ == "__main__":
    main()
