"""Write the measured parts of ``docs/forecast.md``, and the record that ``check`` quotes, from ``benchmarks/forecast``.

``python tools/forecast/page.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check`` it only
compares, and exits 1 where either is stale. What stands outside the marks is written by hand. Measurements get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from foretelling import MODELS, record_of
from measured import pack, read, unpack
from tables import parts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages
from packed import add_to, all_of

PAGE = pages.ROOT / "docs" / "forecast.md"
LOGS = pages.ROOT / "benchmarks" / "forecast"
RECORD = pages.ROOT / "src" / "tillerman" / "reports" / "forecast_record.json"


def main() -> None:
    given = pages.asked(__doc__, "the files of measure.py", "OUT").parse_args()
    if given.add:
        add_to(LOGS, read(given.add), unpack, pack)
    pages.write(__file__, made, check=given.check)


def made() -> pages.Made:
    """What the page and the record hold, made anew."""
    many = all_of(LOGS, unpack)
    models = [name for name in MODELS if any(one.model == name for one in many)]
    records = [record_of(name, [one for one in many if one.model == name]) for name in models]
    text = json.dumps([asdict(one) for one in records if one is not None], indent=1) + "\n"
    return {PAGE: pages.filled(PAGE, parts(many)), RECORD: text}


if __name__ == "__main__":
    main()
