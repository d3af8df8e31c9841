"""What a comparison says over several data sets: effects by data set, and means by method. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from tillerman.logs.comparison import Comparison, ComparisonLog, MethodResult
from tillerman.logs.conditions import ConditionName, condition_label
from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.numbers import compact, decimal

STANDS = "*"  # after an effect that remains after Holm's adjustment
_BASELINES = (ConditionName.PROMPT, ConditionName.ICL)


def across(log: ComparisonLog) -> Account | None:
    """Of two data sets on: which methods move many of them, at which price. None for a single one."""
    made = log.comparisons
    if len(made) < 2:
        return None
    ranked = _ranked(made)
    stroke = "" if made[0].equal_kl is None else "; after the stroke those at equal KL"
    sentences = (
        "a star: the effect remains after Holm's adjustment. Effects are against the unsteered model on the same "
        f"test items, in percentage points{stroke}",
        "means and medians are over the data sets a method ran on, and hide differences between them",
    )
    return Account(
        f"{len(made)} data sets", (_by_method(made, ranked), _by_data(made, ranked)), sentences, title="Overview"
    )


def _by_method(made: Sequence[Comparison], ranked: Sequence[str]) -> Table:
    budget = made[0].equal_kl
    head = (
        "",
        "mean effect, pp",
        *(() if budget is None else (f"at KL {compact(budget)}",)),
        "stands on",
        "clears both nulls on",
        "median KL",
        "fit, s",
        "time per token ×",
    )
    rows = []
    for baseline in _BASELINES:
        gains = [gain for one in made if (gain := _baseline(one, baseline)) is not None]
        if gains:
            rows.append((condition_label(baseline), _pp(fmean(gains), 1), *("",) * (len(head) - 2)))
    rows += [_means(name, made, budget is not None) for name in ranked]
    return Table(f"Means over {len(made)} data sets", head, tuple(rows))


def _means(name: str, made: Sequence[Comparison], at_budget: bool) -> tuple[str, ...]:
    found = [(m, one) for one in made if (m := _method(one, name)) is not None]

    def middle(of: Callable[[MethodResult], float]) -> float:
        return median(of(m) for m, _ in found)

    return (
        name,
        _pp(fmean(m.effect.value for m, _ in found), 1),
        *((_pp(_at_budget(name, made), 1),) if at_budget else ()),
        f"{sum(m in one.standing for m, one in found)} of {len(found)}",
        f"{sum(m.clears_nulls for m, _ in found)} of {len(found)}",
        decimal(middle(lambda m: m.side_effects.kl), 3),
        decimal(middle(lambda m: m.cost.fit_seconds), 1),
        decimal(middle(lambda m: m.cost.time_ratio)),
    )


def _ranked(made: Sequence[Comparison]) -> list[str]:
    """Methods by their mean effect at equal cost where that was asked for, else at their own strength."""
    names = list(dict.fromkeys(m.method for one in made for m in one.methods))
    return sorted(names, key=lambda name: -_at_budget(name, made))


def _at_budget(name: str, made: Sequence[Comparison]) -> float:
    found = [m for one in made if (m := _method(one, name)) is not None]
    return fmean((m.effect if m.at_budget is None else m.at_budget.effect).value for m in found)


def _by_data(made: Sequence[Comparison], ranked: Sequence[str]) -> Table:
    rows = []
    for baseline in _BASELINES:
        gains = [_baseline(one, baseline) for one in made]
        rows.append((condition_label(baseline), *("" if gain is None else _pp(gain) for gain in gains)))
    for name in ranked:
        rows.append((name, *(_effect(_method(one, name), one) for one in made)))
    head = ("", *(one.data_name for one in made))
    return Table("Effects by data set, pp", head, tuple(row for row in rows if any(row[1:])))


def _effect(found: MethodResult | None, comparison: Comparison) -> str:
    if found is None:
        return "left out"
    chosen = _pp(found.effect.value) + (STANDS if found in comparison.standing else "")
    return chosen if found.at_budget is None else f"{chosen} / {_pp(found.at_budget.effect.value)}"


def _pp(value: float, places: int = 0) -> str:
    """A difference in percentage points, which the head or the title names."""
    return decimal(100 * value, places, signed=True)


def _method(comparison: Comparison, name: str) -> MethodResult | None:
    return next((m for m in comparison.methods if m.method == name), None)


def _baseline(comparison: Comparison, name: str) -> float | None:
    found = next((one for one in comparison.baselines if one.name == name), None)
    return None if found is None or found.effect is None else found.effect.value
