"""The behaviour beside refusals, and refusals by kind of prompt. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.study import Trial
from tillerman.logs.table import Table
from tillerman.reports.numbers import briefly, decimal, in_points, shown, shown_number, shown_rate, span
from tillerman.statistics.estimates import bootstrap_mean, effect, mean_effect, t_interval
from tillerman.statistics.values import Effect, MeanEffect
from tillerman.studies.safety.options import BEHAVIOUR, NULL, PROMPT, SAFE, STEERED, UNSAFE, UNSTEERED, WITHOUT
from tillerman.studies.trials import WRITTEN, has, pick, rate_of, right, shared, values


def behaviour_table(trials: Sequence[Trial]) -> Table:
    """What the vector is for, with and without its component along the refusal direction."""
    plain, rows = pick(trials, BEHAVIOUR, UNSTEERED), []
    written = plain.scorer == WRITTEN
    for name in (UNSTEERED, STEERED, WITHOUT, PROMPT):
        if has(trials, BEHAVIOUR, name):
            one = pick(trials, BEHAVIOUR, name)
            said = _mean(one) if written else shown_rate(rate_of(one))
            rows.append((name, str(len(one.items)), said, "" if name == UNSTEERED else _shown(moved(trials, name))))
    draws = [moved(trials, t.condition).value for t in trials if t.case == BEHAVIOUR and t.condition.startswith(NULL)]
    if len(draws) > 1:
        mean, interval, _ = t_interval(draws)
        null = shown_number(mean, interval, signed=True) if written else in_points(mean, interval)
        rows.append((f"{len(draws)} random directions", "", "", null))
    unit = ("mean written score (95 %)", "change (95 %)") if written else ("right, % (95 %)", "change, pp (95 %)")
    strong = tuple(i for i, row in enumerate(rows) if row[0] == STEERED)
    return Table("The behaviour, on the artefact's test items", ("condition", "n", *unit), tuple(rows), strong)


def moved(trials: Sequence[Trial], name: str) -> Effect | MeanEffect:
    """The change of the behaviour, paired with unsteered."""
    one, plain = pick(trials, BEHAVIOUR, name), pick(trials, BEHAVIOUR, UNSTEERED)
    after, before, groups = shared(one, plain)
    return mean_effect(after, before) if one.scorer == WRITTEN else effect(after > 0.5, before > 0.5, groups)


def effect_words(trials: Sequence[Trial]) -> str:
    """What the behaviour loses with the component along the refusal direction."""
    steered, without = (moved(trials, name) for name in (STEERED, WITHOUT))
    return f", and the behaviour by {_briefly(without)} instead of {_briefly(steered)}"


def kinds_table(trials: Sequence[Trial]) -> Table:
    """Counts only: there are few prompts of a kind."""
    rows = []
    for side in (UNSAFE, SAFE):
        plain, steered = pick(trials, side, UNSTEERED), pick(trials, side, STEERED)
        for kind in sorted(set(plain.groups)):
            counts = [
                [full for full, group in zip(right(one), one.groups, strict=True) if group == kind]
                for one in (plain, steered)
            ]
            rows.append((kind, side, str(len(counts[0])), *(str(int(sum(one))) for one in counts)))
    head = ("kind", "side", "n", "refused, unsteered", "refused, steered")
    return Table("Refusals by kind of prompt", head, tuple(rows))


def _mean(one: Trial) -> str:
    return shown_number(float(values(one).mean()), bootstrap_mean(values(one)))


def _shown(found: Effect | MeanEffect) -> str:
    return shown(found) if isinstance(found, Effect) else shown_number(found.value, found.interval, signed=True)


def _briefly(found: Effect | MeanEffect) -> str:
    if isinstance(found, Effect):
        return briefly(found)
    return f"{decimal(found.value, signed=True)} ({span(found.interval, 1.0, 2, signed=True)})"
