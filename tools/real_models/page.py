"""Write the measured parts of ``docs/real-models.md`` and README's table from the logs in ``benchmarks/real_models``.

``python tools/real_models/page.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check`` it
only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs get there
with ``--add OUT``, the folder that ``measure.py`` wrote. ``tools/leaderboard/page.py`` shows the same logs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from autoencoder import autoencoder
from behaviours import DEFAULTS
from chapters import NAMES, chapters
from defaults import by_defaults
from first import first_table
from learned import read_sweep
from measured import pack, read, unpack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages
from packed import add_to, all_of

PAGE = pages.ROOT / "docs" / "real-models.md"
README = pages.ROOT / "README.md"
LOGS = pages.ROOT / "benchmarks" / "real_models"


def main() -> None:
    given = pages.asked(__doc__, "the logs of measure.py", "OUT").parse_args()
    if given.add:
        add_to(LOGS, read(given.add), unpack, pack)
    pages.write(__file__, made, check=given.check)


def made() -> pages.Made:
    return {path: pages.filled(path, mine) for path, mine in parts().items()}


def parts() -> dict[Path, dict[str, str]]:
    """What each page holds, by the name of its marks."""
    many, plain = [], []
    for one in all_of(LOGS, unpack):
        (plain if one.method == DEFAULTS else many).append(one)
    measured = chapters(many, read_sweep(LOGS / "sweep.jsonl"))
    measured |= {"autoencoder": autoencoder(LOGS / "sae.json"), "defaults": by_defaults(plain, NAMES)}
    return {PAGE: measured, README: {"real model": first_table(many)}}


if __name__ == "__main__":
    main()
