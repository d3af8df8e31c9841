"""How much of the effect at home is kept on each target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.errors import MetricError
from tillerman.logs.study import Chart, Judged, Line, Mark, Trial
from tillerman.logs.table import Table
from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import decimal, percent, points
from tillerman.statistics.estimates import effect
from tillerman.statistics.values import Effect, Interval, Rate
from tillerman.studies.transfer.options import COSINE, DOSE, HOME, NORM, OWN, TransferOptions
from tillerman.studies.trials import (
    KL,
    PERPLEXITY,
    Figure,
    cases_of,
    change,
    has,
    in_points,
    mark,
    mean_of,
    null_effect,
    odds_of,
    paired,
    pick,
    rate_of,
    right,
    said,
    said_share,
    share_of,
    shown,
    shown_figure,
    shown_rate,
    stands,
    values,
)

_KEPT, _LOST = 0.7, 0.5  # share of the effect at home: at least so much is kept, less than so much is lost
_ROOM = 0.5  # of the effect at home: a target with less to be gained cannot show it
_NOTES = (
    "Every model is asked the same items; the vector has the same strength everywhere, so its dose may differ.",
    "Own vector: fitted anew on that model, at the same hook points and the dose at home.",
    "Retention: effect there as a share of that at home, resampled over the same items; retention in log-odds "
    "decides, because it does not depend on the accuracy of the unsteered model.",
)


@dataclass(frozen=True)
class _Landing:
    """What the vector does on one model. What is kept of the effect at home is None where there is none to keep, and in
    log-odds where there are none."""

    name: str
    plain: Rate
    effect: Effect
    own: Effect | None
    null: tuple[float, Interval] | None
    kept_points: Figure | None
    kept_odds: Figure | None
    shift: Effect | None  # of the unsteered model, against home

    @property
    def kept(self) -> Figure | None:
        return self.kept_odds or self.kept_points

    @property
    def works(self) -> bool:
        return stands(self.effect, self.null)

    def has_room(self, home: Effect) -> bool:
        """Whether the unsteered model leaves as much to be gained as shows a loss."""
        return 1 - self.plain.value >= _ROOM * home.value


def judge(trials: Sequence[Trial], options: TransferOptions) -> Judged:
    del options  # all that matters is in the trials
    home, *targets = (_landing(trials, case) for case in cases_of(trials))
    tables = (
        _behaviour_table(trials, [home, *targets]),
        _odds_table(trials, [home, *targets]),
        _cost_table(trials, [home, *targets]),
    )
    return Judged(_verdict(home, targets), tables, _charts(trials, [home, *targets]), _NOTES)


def _landing(trials: Sequence[Trial], case: str) -> _Landing:
    there, at_home = change(trials, case, "steered"), change(trials, HOME, "steered")
    plain, before = pick(trials, case, "unsteered"), pick(trials, HOME, "unsteered")
    if plain.items != before.items:
        raise MetricError(f"{case}: was not asked the same items as {HOME}")
    return _Landing(
        name=case,
        plain=rate_of(plain),
        effect=paired(trials, case),
        own=paired(trials, case, OWN) if has(trials, case, OWN) else None,
        null=null_effect(trials, case),
        kept_points=share_of(there, at_home) if paired(trials, HOME).found else None,
        kept_odds=_kept_odds(trials, case),
        shift=None if case == HOME else effect(right(plain), right(before), plain.groups),
    )


def _kept_odds(trials: Sequence[Trial], case: str) -> Figure | None:
    plain, steered = odds_of("unsteered"), odds_of("steered")
    if not all(has(trials, where, one) for where in (case, HOME) for one in (plain, steered)):
        return None
    there, at_home = (change(trials, where, steered, plain) for where in (case, HOME))
    return share_of(there, at_home) if mean_of(at_home).interval.low > 0 else None


def _verdict(home: _Landing, targets: Sequence[_Landing]) -> Verdict:
    if not home.works:
        words = f"Nothing to transfer: at home there is no effect beyond the controls, {said(home.effect)}."
        return Verdict("bad", words)
    words = f"At home the effect is {said(home.effect)}."
    if not targets:
        return Verdict("unclear", f"{words} No other model was asked.")
    outcomes = {one: _outcome(home, one) for one in targets}
    words += " " + " ".join(_sentence(home, one, outcomes[one]) for one in targets)
    found = set(outcomes.values())
    if len(found) == 1:
        return Verdict(found.pop(), words)
    return Verdict("mixed" if found & {"bad", "mixed"} else "unclear", words)


def _outcome(home: _Landing, one: _Landing) -> str:
    if one.kept is None or not one.has_room(home.effect):
        return "unclear"
    if not one.works or one.kept.interval.high < _LOST:
        return "bad"
    return "good" if one.kept.interval.low >= _KEPT else "mixed" if one.kept.interval.high < 1 else "unclear"


def _sentence(home: _Landing, one: _Landing, outcome: str) -> str:
    words = f"{one.name}: {shown(one.effect)} pp"
    if one.kept is not None:
        words += f", {said_share(one.kept)} of home{' in log-odds' if one.kept_odds else ''}"
    if one.shift is not None and not one.shift.interval.low <= 0 <= one.shift.interval.high:
        words += f" (unsteered it is {points(one.shift.value)} beside home)"
    if not one.has_room(home.effect):
        left = points(1 - one.plain.value).lstrip("+")
        return (
            f"{words}; unsteered it is already right on {percent(one.plain.value, 0)}, so only {left} could be gained."
        )
    if outcome == "bad" and one.own is not None and one.own.found:
        words += f"; a vector fitted there gives {shown(one.own)} pp: fit it anew"
    return f"{words}."


def _behaviour_table(trials: Sequence[Trial], found: Sequence[_Landing]) -> Table:
    head = (
        "model",
        "n",
        "unsteered, % (95 %)",
        "against home, pp (95 %)",
        "effect, pp (95 %)",
        "retention (95 %)",
        "own vector, pp (95 %)",
        "random null, pp (95 %)",
        "prompt, pp (95 %)",
    )
    rows = [
        (
            one.name,
            str(one.effect.n),
            shown_rate(one.plain),
            "" if one.shift is None else shown(one.shift),
            shown(one.effect),
            "" if one.kept_points is None or one.shift is None else said_share(one.kept_points),
            "" if one.own is None else shown(one.own),
            "" if one.null is None else in_points(*one.null),
            shown(paired(trials, one.name, "prompt")) if has(trials, one.name, "prompt") else "",
        )
        for one in found
    ]
    strong = tuple(i for i, one in enumerate(found) if one.works)
    return Table("The same items under the same vector", head, tuple(rows), strong)


def _odds_table(trials: Sequence[Trial], found: Sequence[_Landing]) -> Table:
    """What accuracy does not show where it is near 0 or 100 %."""
    plain, steered = odds_of("unsteered"), odds_of("steered")
    rows = []
    for one in found:
        if not has(trials, one.name, plain) or not has(trials, one.name, steered):
            rows.append((one.name, *("not a number",) * 3))
            continue
        before = mean_of(values(pick(trials, one.name, plain)))
        moved = mean_of(change(trials, one.name, steered, plain))
        kept = "" if one.kept_odds is None or one.shift is None else said_share(one.kept_odds)
        rows.append((one.name, shown_figure(before), shown_figure(moved), kept))
    head = ("model", "unsteered, nats (95 %)", "change by the vector, nats (95 %)", "retention (95 %)")
    return Table("Log-odds of the right answer", head, tuple(rows))


def _cost_table(trials: Sequence[Trial], found: Sequence[_Landing]) -> Table:
    def cell(case: str, condition: str, places: int, *, windows: bool = False) -> str:
        if not has(trials, case, condition):
            return "not a number" if windows else ""
        got = values(pick(trials, case, condition))
        return shown_figure(mean_of(got), places, signed=False) if windows else decimal(float(got.mean()), places)

    rows = [
        (
            one.name,
            cell(one.name, KL, 3, windows=True),
            cell(one.name, PERPLEXITY, 3, windows=True),
            cell(one.name, DOSE, 3),
            cell(one.name, NORM, 2),
            cell(one.name, COSINE, 3),
        )
        for one in found
    ]
    head = (
        "model",
        "KL, nats/token (95 %)",
        "log of the perplexity ratio (95 %)",
        "dose there",
        "stream norm there",
        "cosine to own vector",
    )
    return Table("Cost and dose on each model", head, tuple(rows))


def _charts(trials: Sequence[Trial], found: Sequence[_Landing]) -> tuple[Chart, ...]:
    lines = [Line("this vector", tuple(mark(one.name, one.effect) for one in found))]
    own = tuple(mark(one.name, one.own) for one in found if one.own is not None)
    nulls = tuple(Mark(one.name, *one.null, one.effect.n) for one in found if one.null is not None)
    lines += [Line("own vector", own, "prompt")] if own else []
    lines += [Line("random direction", nulls, "null")] if nulls else []
    costs = [
        Mark(one.name, figure.value, figure.interval, len(trial.items))
        for one in found
        if has(trials, one.name, KL) and (trial := pick(trials, one.name, KL)) and (figure := mean_of(values(trial)))
    ]
    charts = [Chart("Effect on each model", "bars", "pp", tuple(lines), axis="effect against unsteered")]
    if costs:
        charts.append(Chart("KL on neutral text", "bars", "nats", (Line("KL", tuple(costs), "cost"),)))
    return tuple(charts)
