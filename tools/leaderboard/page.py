"""Write the tables of ``docs/leaderboard.md`` from the committed logs of real models and of the pilot's comparison.

``python tools/leaderboard/page.py`` writes them between ``<!-- NAME -->`` and ``<!-- /NAME -->``; with ``--check`` it
only compares, and exits 1 where the page is stale. What stands outside the marks is written by hand. Logs of real
models get there with ``--add OUT``, the folder that ``tools/real_models/measure.py`` wrote, and are those of
``docs/real-models.md`` too; that of the pilot with ``tools/results/build.py --add``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tillerman.logs.comparison import ComparisonLog
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal
from tillerman.reports.tables import markdown_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "real_models"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from boards import KINDS, Board, Mean, Row, compared_board, effect_of, lead, real_boards
from chapters import NAMES
from measured import pack, read, unpack

import pages
from packed import add_to, all_of, read_packed

PAGE = pages.ROOT / "docs" / "leaderboard.md"
REAL = pages.ROOT / "benchmarks" / "real_models"
COMPARED = pages.ROOT / "benchmarks" / "comparison.json.gz"
PILOT = "the embedded pilot"
NOT_RUN, NONE = "not run", "–"
RIVALS = "prompt", "few-shot", "LoRA"


def main() -> None:
    given = pages.asked(__doc__, "the logs of tools/real_models/measure.py", "OUT").parse_args()
    if given.add:
        add_to(REAL, read(given.add), unpack, pack)
    pages.write(__file__, made, check=given.check)


def made() -> pages.Made:
    return {PAGE: pages.filled(PAGE, parts(boards()))}


def boards() -> list[Board]:
    """Every model with a log: a name that no title is known for is its own."""
    many = all_of(REAL, unpack)
    names = sorted({one.model for one in many}, key=lambda one: list(NAMES).index(one) if one in NAMES else len(NAMES))
    found = [board for name in names for board in real_boards(many, name, NAMES.get(name, name))]
    log = ComparisonLog.from_json(read_packed(COMPARED))
    return [*found, compared_board(log, PILOT)]


def parts(found: Sequence[Board]) -> dict[str, str]:
    """What the page holds, by the name of its marks."""
    tables = []
    for model in dict.fromkeys(board.model for board in found):
        tables.append(f"## {model[0].upper()}{model[1:]}")
        for board in (one for one in found if one.model == model):
            title = f"### {KINDS[board.kind][0].upper()}{KINDS[board.kind][1:]}, {board.tests} tests"
            tables += [title, markdown_table(table(board))]
    return {"in short": in_short(found), "tables": "\n\n".join(tables) + "\n"}


def in_short(found: Sequence[Board]) -> str:
    """A sentence for each model: who wins where."""
    lines = []
    for model in dict.fromkeys(board.model for board in found):
        clauses = [clause(board) for board in found if board.model == model]
        lines.append(f"* **{model[0].upper()}{model[1:]}**: {'; '.join(clauses)}.")
    return "\n".join(lines) + "\n"


def clause(board: Board) -> str:
    """The best method of those that ran on every behaviour, against the better baseline of those that did."""
    whole = [(mean.value, row) for row in board.rows if board.is_whole(row) and (mean := effect_of(row)) is not None]
    told = max((one for one in whole if one[1].is_baseline), key=lambda one: one[0], default=None)
    best = max((one for one in whole if not one[1].is_baseline), key=lambda one: one[0], default=None)
    kind = f"in {KINDS[board.kind]} ({len(board.behaviours)})"
    if told is None or best is None:
        return f"{kind} no method and no baseline ran on all"
    vector, words = _named(board, best[1]), _named(board, told[1])
    ahead = lead(best[1], told[1].name)
    assert ahead is not None
    if not any((mean := effect_of(row)) is not None and mean.interval.low > 0 for row in (best[1], told[1])):
        return (
            f"{kind} neither the best baseline, {words}, nor the best method, {vector}, has a mean effect that is found"
        )
    by = _shown(board, ahead)
    if ahead.interval.low > 0:
        return f"{kind} {vector} does more than the best baseline, {words}: by {by}"
    if ahead.interval.high < 0:
        return f"{kind} {words} does more than the best method, {vector}: the method minus it is {by}"
    return f"{kind} the best method, {vector}, and the best baseline, {words}, are not told apart: {by} between them"


def _named(board: Board, row: Row) -> str:
    mean = effect_of(row)
    assert mean is not None
    return f"`{row.name}` ({_shown(board, mean)})" if not row.is_baseline else f"{row.name} ({_shown(board, mean)})"


HEAD = {
    "written": (
        "ways of writing",
        "mean change of the score (95 % over behaviours)",
        "does it on",
        "stands on",
        "minus prompt",
        "minus few-shot",
        "minus LoRA",
        "KL, nats",
        "repeated, pp",
        "refused: unsafe, safe, pp",
        "CPU s",
        "bytes",
    ),
    "answered": (
        "personas",
        "mean effect, pp (95 % over behaviours)",
        "does it on",
        "stands on",
        "minus prompt",
        "minus few-shot",
        "minus LoRA",
        "moved the wrong way, %",
        "KL, nats",
        "repeated, pp",
        "refused: unsafe, safe, pp",
        "CPU s",
        "bytes",
    ),
    "compared": (
        "personas",
        "mean effect, pp (95 % over behaviours)",
        "at KL 0.05",
        "clears nulls on",
        "stands on",
        "minus prompt",
        "minus few-shot",
        "moved the wrong way, %",
        "KL, nats",
        "perplexity ×",
        "fit, s",
        "time per token ×",
        "bytes",
    ),
}


def table(board: Board) -> Table:
    """A row that holds nothing was not run."""
    layout = "compared" if board.compared else board.kind
    stands = board.significant()
    rows = []
    for row in board.rows:
        cells = _cells(board, row, layout, stands) if row.cells else [f"refused on {row.refused}"] * bool(row.refused)
        cells = cells or [NOT_RUN]
        rows.append((row.name, *cells, *(NONE,) * (len(HEAD[layout]) - len(cells))))
    return Table("", ("", *HEAD[layout]), tuple(rows))


def _cells(board: Board, row: Row, layout: str, stands: dict[tuple[str, str], bool]) -> list[str]:
    mean, n = effect_of(row), len(row.cells)
    assert mean is not None
    does = sum(cell.does_it for cell in row.cells.values())
    firm = sum(stands[row.name, name] for name in row.cells)
    cells = [_count(board, row), _shown(board, mean)]
    if layout == "compared":
        at = row.mean(lambda cell: cell.at_kl)
        cells.append(NONE if at is None else decimal(board.scale * at, 1, signed=True))
    cells += [f"{does} of {n}" if not (row.is_baseline and layout == "compared") else NONE, f"{firm} of {n}"]
    for name in (one for one in RIVALS if f"minus {one}" in HEAD[layout]):
        ahead = lead(row, name) if row.name != name else None
        cells.append(NONE if ahead is None else _shown(board, ahead))
    if layout != "written":
        cells.append(_share(row.mean(lambda cell: cell.wrong, steering=True)))
    cells.append(_plain(row.median(lambda cell: cell.kl, steering=True), 3) if not row.is_baseline else NONE)
    if layout == "compared":
        cells += [
            _plain(row.median(lambda cell: cell.perplexity, steering=True), 2),
            _plain(row.median(lambda cell: cell.seconds), 1),
            _plain(row.median(lambda cell: cell.time_ratio), 2),
            _plain(row.median(lambda cell: cell.size), 0),
        ]
    else:
        again = row.mean(lambda cell: cell.repeated, steering=True)
        cells += [NONE if again is None else decimal(100 * again, 0, signed=True)]
        cells += [_refused(row), _plain(row.median(lambda cell: cell.seconds), 0)]
        cells += [_plain(row.median(lambda cell: cell.size), 0)]
    return cells


def _refused(row: Row) -> str:
    """The mean changes of refusals, and over how many behaviours: those whose run asked and where it steers."""
    asked = [cell for cell in row.cells.values() if cell.unsafe is not None and cell.safe is not None]
    if not asked:
        return NONE
    means = [float(np.mean([getattr(cell, side) for cell in asked])) for side in ("unsafe", "safe")]
    shown = ", ".join(decimal(100 * mean, 1, signed=True) for mean in means)
    return f"{shown} ({len(asked)})"


def _count(board: Board, row: Row) -> str:
    """How many were measured, and on how many it did nothing or could not be tried."""
    said = [f"{len(row.cells)} of {len(board.behaviours)}"]
    abstains = sum(cell.abstains for cell in row.cells.values())
    said += [f"abstains on {abstains}"] if abstains else []
    said += [f"refused on {row.refused}"] if row.refused else []
    return ", ".join(said)


def _shown(board: Board, mean: Mean) -> str:
    places = 2 if board.scale == 1 else 1
    value = decimal(board.scale * mean.value, places, signed=True)
    if not mean.interval.known:
        return f"{value} (no interval)"
    low, high = (decimal(board.scale * end, places, signed=True) for end in (mean.interval.low, mean.interval.high))
    return f"{value} ({low} to {high})"


def _share(value: float | None) -> str:
    return NONE if value is None else decimal(100 * value, 0)


def _plain(value: float | None, places: int) -> str:
    return NONE if value is None else decimal(value, places)


if __name__ == "__main__":
    main()
