"""Write the measured part of ``docs/detection.md`` from the logs in ``benchmarks/detection``.

``python tools/detection/page.py`` writes it between ``<!-- measured -->`` and ``<!-- /measured -->``; with ``--check``
it only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs get there
with ``--add OUT``, the folder that ``measure.py`` wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from found import BAG, RANDOM, Found, pack, read, unpack

from tillerman.methods.estimators import ESTIMATORS
from tillerman.reports.numbers import decimal
from tillerman.statistics.estimates import bootstrap_mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pages
from packed import add_to, all_of

PAGE = pages.ROOT / "docs" / "detection.md"
LOGS = pages.ROOT / "benchmarks" / "detection"
MODELS = {"smollm2": "SmolLM2-135M-Instruct", "gemma3": "Gemma 3 270M", "pilot": "the embedded model"}


def main() -> None:
    given = pages.asked(__doc__, "the logs of measure.py", "OUT").parse_args()
    if given.add:
        add_to(LOGS, read(given.add), unpack, pack)
    pages.write(__file__, made, check=given.check)


def made() -> pages.Made:
    many = all_of(LOGS, unpack)
    parts = [table(title, [one for one in many if one.model == name]) for name, title in MODELS.items()]
    return {PAGE: pages.filled(PAGE, {"measured": "\n".join(part for part in parts if part)})}


def table(title: str, many: Sequence[Found]) -> str:
    """A row per detector, a column per layer and pooling: the mean area over concepts with its interval."""
    if not many:
        return ""
    places = list(many[0].areas["mean_difference"])
    asked = [one.counts for one in many]
    sets = ", ".join(dict.fromkeys(one.name for one in many))
    words = (
        f"{title}: {len(many)} concepts ({sets}), {low_high([c[0] for c in asked])} and "
        f"{low_high([c[1] for c in asked])} texts with and without one to learn from, "
        f"{low_high([c[2] for c in asked])} and {low_high([c[3] for c in asked])} asked."
    )
    head = "| detector | " + " | ".join(f"layer {place.replace(' ', ', ')}" for place in places) + " |"
    rows = [head, "|---|" + "---:|" * len(places)]
    for name in ESTIMATORS:
        cells = [shown([one.areas[name][place] for one in many]) for place in places]
        rows.append(f"| {'`caa`' if name == 'mean_difference' else f'`caa+{name}`'} | " + " | ".join(cells) + " |")
    drawn = [name for name in many[0].areas if name.startswith(RANDOM)]
    far = [[float(np.mean([one.areas[name][place] for name in drawn])) for one in many] for place in places]
    rows.append(f"| {len(drawn)} random directions | " + " | ".join(map(shown, far)) + " |")
    bag = shown([one.areas[BAG]["words"] for one in many])
    return f"{words}\n\n" + "\n".join(rows) + f"\n\nA classifier of {BAG}, which reads no activation: {bag}.\n"


def low_high(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def shown(areas: Sequence[float]) -> str:
    interval = bootstrap_mean(np.array(areas, dtype=np.float64))
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)  # it is symmetric, and no area is above 1
    return f"{decimal(float(np.mean(areas)), 3)} ({decimal(low, 3)} to {decimal(high, 3)})"


if __name__ == "__main__":
    main()
