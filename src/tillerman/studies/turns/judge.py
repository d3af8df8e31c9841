"""Drift over turns, by conversation, and what is left after the vector is switched off. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import decimal
from tillerman.statistics.detection import slopes
from tillerman.statistics.values import NO_INTERVAL
from tillerman.studies.trials import WRITTEN, Figure, has, mean_of, pick, shown_figure
from tillerman.studies.turns.options import (
    BEHAVIOUR,
    FRESH,
    FROZEN,
    LIVE,
    MEASURES,
    NATS,
    OFF,
    PROMPT,
    REPEATED,
    UNSTEERED,
    TurnsOptions,
    case_of,
)

_ALL = (UNSTEERED, LIVE, FROZEN, FRESH, OFF, PROMPT)
_ROLES = {UNSTEERED: "unsteered", LIVE: "steered", FROZEN: "both", FRESH: "null", OFF: "cost", PROMPT: "prompt"}
_SMALL = {BEHAVIOUR: 0.1, NATS: 0.3, REPEATED: 0.1}  # a change from the first turn to the last that is none to speak of
_WORSE = {BEHAVIOUR: -1, NATS: 1, REPEATED: 1}  # the sign of a change for the worse
_SAID = {
    BEHAVIOUR: "the behaviour fades",
    NATS: "replies become less likely",
    REPEATED: "replies repeat themselves more",
}

Curve = NDArray[np.float64]  # [turns, conversations], NaN where nothing could be measured


@dataclass(frozen=True)
class _Drift:
    """Of a measure, from the first turn to the last: ``change`` is the least-squares slope times the turns between,
    paired by conversation, of the live history against one written and read unsteered."""

    measure: str
    change: Figure

    @property
    def worse(self) -> bool:
        low, high = self.change.interval.low, self.change.interval.high
        return low > 0 if _WORSE[self.measure] > 0 else high < 0

    @property
    def small(self) -> bool:
        """Whether a change for the worse that is worth a word is ruled out."""
        low, high = self.change.interval.low, self.change.interval.high
        return high <= _SMALL[self.measure] if _WORSE[self.measure] > 0 else low >= -_SMALL[self.measure]


def judge(trials: Sequence[Trial], options: TurnsOptions) -> Judged:
    curves = {
        measure: {
            name: _curve(trials, measure, name, options) for name in _ALL if _there(trials, measure, name, options)
        }
        for measure in MEASURES
    }
    curves = {measure: found for measure, found in curves.items() if measure == BEHAVIOUR or _measured(found)}
    tables = (
        *(_by_turn(measure, found, options) for measure, found in curves.items()),
        _slope_table(curves, options),
        _left_table(curves[BEHAVIOUR], options),
    )
    charts = tuple(_chart(measure, found) for measure, found in curves.items())
    return Judged(_verdict(curves, options), tables, charts, _notes(trials, options))


def _there(trials: Sequence[Trial], measure: str, name: str, options: TurnsOptions) -> bool:
    return any(has(trials, case_of(measure, turn), name) for turn in range(1, options.turns + 1))


def _curve(trials: Sequence[Trial], measure: str, name: str, options: TurnsOptions) -> Curve:
    """A conversation is known by its number: what a turn could not measure is NaN."""
    found = np.full((options.turns, options.limit), np.nan)
    for turn in range(1, options.turns + 1):
        if has(trials, case_of(measure, turn), name):
            one = pick(trials, case_of(measure, turn), name)
            places = [int(item.rpartition(" ")[2]) - 1 for item in one.items]
            found[turn - 1, places] = one.values
    return found


def _measured(curves: dict[str, Curve]) -> bool:
    """Whether there is a drift of it: replies of one word have no runs that could be repeated."""
    if not {LIVE, FROZEN, FRESH, UNSTEERED} <= set(curves):
        return False
    return bool(np.isfinite(_change(curves[LIVE]) - _change(curves[FRESH])).any())


def _change(curve: Curve) -> NDArray[np.float64]:
    """Slope over turns times the turns between the first and the last, by conversation."""
    turns = np.arange(1, len(curve) + 1, dtype=np.float64)
    return slopes(turns, curve) * (len(curve) - 1)


def _figure(per_conversation: NDArray[np.float64]) -> Figure:
    """Of the conversations in which it is known; not a number where it is in none."""
    kept = per_conversation[np.isfinite(per_conversation)]
    return mean_of(kept) if len(kept) else Figure(float("nan"), NO_INTERVAL)


def _verdict(curves: dict[str, dict[str, Curve]], options: TurnsOptions) -> Verdict:
    behaviour = curves[BEHAVIOUR]
    lead = behaviour[LIVE] - behaviour[UNSTEERED]
    effect, last = _figure(np.nanmean(lead, axis=0)), _figure(lead[-1])
    words = (
        f"Over {options.turns} turns the behaviour is {shown_figure(effect)} above unsteered, at the last "
        f"{shown_figure(last)} (n = {options.limit} conversations)."
    )
    if effect.interval.low <= 0:
        return Verdict("unclear", f"{words} There is no effect that could drift.")
    found = [_Drift(m, _figure(_change(curves[m][LIVE]) - _change(curves[m][FRESH]))) for m in curves]
    words += " With a history that was itself steered, from the first turn to the last, against one that was not: "
    words += ", ".join(f"{one.measure} {shown_figure(one.change)}" for one in found) + "."
    worse = [one for one in found if one.worse]
    gone = last.interval.low <= 0
    if worse:
        words += f" So {' and '.join(_SAID[one.measure] for one in worse)}."
    if gone:
        words += " At the last turn the behaviour is no longer told from unsteered."
    outcome = "bad" if len(worse) > 1 or (worse and gone) else "mixed" if worse else "unclear"
    if not worse and not gone and all(one.small for one in found):
        outcome = "good"
    elif not worse:
        words += " Neither drift nor its absence is established."
    return Verdict(outcome, words + _left_words(behaviour, options))


def _left_words(behaviour: dict[str, Curve], options: TurnsOptions) -> str:
    remains = _remaining(behaviour, options)
    first = _figure((behaviour[OFF] - behaviour[UNSTEERED])[options.off_after])
    if not remains:
        return (
            f" Switched off after turn {options.off_after} nothing of it is found at the next ({shown_figure(first)})."
        )
    until = "to the last turn" if remains == options.turns - options.off_after else f"for {remains} turns"
    return f" Switched off after turn {options.off_after} it remains {until} (at the next {shown_figure(first)})."


def _remaining(behaviour: dict[str, Curve], options: TurnsOptions) -> int:
    """Turns in a row after the switch at which the behaviour is above unsteered, each by its own interval."""
    lead, count = behaviour[OFF] - behaviour[UNSTEERED], 0
    for turn in range(options.off_after, options.turns):
        if not _figure(lead[turn]).interval.low > 0:
            break
        count += 1
    return count


def _by_turn(measure: str, curves: dict[str, Curve], options: TurnsOptions) -> Table:
    rows = [
        (str(turn + 1), *("" if np.isnan(curve[turn]).all() else _mean(curve[turn]) for curve in curves.values()))
        for turn in range(options.turns)
    ]
    return Table(f"{measure.capitalize()}, by turn", ("turn", *curves), tuple(rows))


def _mean(values: NDArray[np.float64]) -> str:
    return decimal(float(np.nanmean(values)))


def _slope_table(curves: dict[str, dict[str, Curve]], options: TurnsOptions) -> Table:
    """From the first turn to the last, by condition, and the paired differences that tell drift from length."""
    rows = []
    for name in (UNSTEERED, LIVE, FROZEN, FRESH, PROMPT):
        if all(name in found for found in curves.values()):
            rows.append((name, *(shown_figure(_figure(_change(curves[m][name]))) for m in curves)))
    for one, other, said in (
        (LIVE, FRESH, "live, against unsteered history"),
        (FROZEN, FRESH, "frozen, against unsteered history"),
        (LIVE, FROZEN, "live, against frozen"),
    ):
        pairs = (_change(curves[m][one]) - _change(curves[m][other]) for m in curves)
        rows.append((said, *(shown_figure(_figure(pair)) for pair in pairs)))
    head = ("condition", *(f"{measure} (95 %)" for measure in curves))
    return Table(f"Change from turn 1 to turn {options.turns}, by slope", head, tuple(rows), (len(rows) - 3,))


def _left_table(behaviour: dict[str, Curve], options: TurnsOptions) -> Table:
    rows = []
    for turn in range(options.off_after, options.turns):
        on = (behaviour[name][turn] - behaviour[UNSTEERED][turn] for name in (LIVE, OFF))
        rows.append((str(turn + 1), *(shown_figure(_figure(one)) for one in on)))
    head = ("turn", "still on, above unsteered (95 %)", "switched off, above unsteered (95 %)")
    return Table(f"The behaviour after it is switched off at turn {options.off_after}", head, tuple(rows))


def _chart(measure: str, curves: dict[str, Curve]) -> Chart:
    lines = []
    for name, curve in curves.items():
        figures = [(turn, _figure(row)) for turn, row in enumerate(curve, start=1) if np.isfinite(row).any()]
        marks = (Mark(f"turn {turn}", one.value, one.interval, curve.shape[1], float(turn)) for turn, one in figures)
        lines.append(Line(name, tuple(marks), _ROLES[name]))
    return Chart(f"{measure.capitalize()} by turn", "curve", "nats" if measure == NATS else "", tuple(lines), "turn")


def _notes(trials: Sequence[Trial], options: TurnsOptions) -> tuple[str, ...]:
    written = pick(trials, case_of(BEHAVIOUR, 1), UNSTEERED).scorer == WRITTEN
    what = "the labels' score of each reply" if written else "the share of right answers to the question of each turn"
    small = ", ".join(f"{measure} {decimal(limit, 1)}" for measure, limit in _SMALL.items())
    return (
        f"Behaviour: {what}. Nats per token: of each reply under the unsteered model after its question alone. "
        f"Replies are greedy, of at most {options.text_tokens} tokens. Conversations are orders of the artefact's test "
        "prompts: they share prompts, so intervals over conversations are narrower than over prompts.",
        "Live: the history was written steered, and is steered again where it is read. Frozen: it was written steered, "
        "and is read unsteered. Unsteered history: written and read unsteered, only the present turn is steered. "
        f"Switched off: live up to turn {options.off_after}, unsteered after it, earlier turns included.",
        f"A change for the worse from the first turn to the last is small up to: {small}. Good: all three are, "
        "intervals included.",
    )
