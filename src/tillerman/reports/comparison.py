"""What a comparison of methods says: its tables and its sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tillerman.logs.comparison import (
    Comparison,
    ComparisonLog,
    MethodResult,
)
from tillerman.logs.conditions import ConditionName, condition_label
from tillerman.logs.evaluation import Condition
from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.comparison_overview import across
from tillerman.reports.numbers import (
    NOT_MEASURED,
    compact,
    decimal,
    percent,
    points,
    shown,
    shown_number,
    shown_p,
    shown_rate,
    span,
)
from tillerman.reports.tables import to_markdown as account_markdown
from tillerman.statistics.estimates import holm
from tillerman.statistics.values import Effect, Rate


def adjusted(methods: Sequence[MethodResult]) -> tuple[MethodResult, ...]:
    """Every p adjusted by Holm's rule for the number of methods; those at the budget among themselves."""
    main = [replace(m, p_holm=p) for m, p in zip(methods, holm([m.effect.p_value for m in methods]), strict=True)]
    budgeted = [m.at_budget for m in main if m.at_budget is not None]
    raised = iter(holm([b.effect.p_value for b in budgeted]))
    return tuple(
        m if m.at_budget is None else replace(m, at_budget=replace(m.at_budget, p_holm=next(raised))) for m in main
    )


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """What was found, what it cost, and (where asked for) what is found at equal cost."""
    items = (_item_by_item(comparison),) if any(m.moved_wrong is not None for m in comparison.methods) else ()
    made = (_effects(comparison), *items, _costs(comparison))
    return made if comparison.equal_kl is None else (*made, _at_budget(comparison))


def _effects(comparison: Comparison) -> Table:
    rows = [_baseline(condition) for condition in comparison.baselines]
    for m in comparison.methods:
        clears = "yes" if m.clears_nulls else "no"
        rows.append((m.method, *_rate(m.rate), *_effect(m.effect, m.p_holm), *_nulls(m), clears))
    head = (
        "",
        "right, % (95 %)",
        "balanced",
        "effect, pp (95 %)",
        "p (Holm)",
        "random null",
        "shuffled null",
        "clears both",
    )
    found = [len(comparison.baselines) + i for i, m in enumerate(comparison.methods) if m.effect.found]
    return Table(f"{comparison.n_test} test items", head, tuple(rows), tuple(found))


def _item_by_item(comparison: Comparison) -> Table:
    """How many items moved the wrong way, and how far a unit of dose moves one."""
    rows = []
    for m in comparison.methods:
        wrong = NOT_MEASURED if m.moved_wrong is None else decimal(100 * m.moved_wrong, 0)
        slope = NOT_MEASURED if m.slope is None else decimal(m.slope, 2, signed=True)
        wrong += f" ({span(m.wrong_interval, places=0)})" if m.wrong_interval is not None else ""
        slope += f" ({span(m.slope_interval, 1.0, 2, signed=True)})" if m.slope_interval is not None else ""
        rows.append((m.method, wrong, slope))
    head = ("", "moved the wrong way, % (95 %)", "slope, nats per unit of dose (95 %)")
    return Table("Item by item: log-odds of the right answer", head, tuple(rows))


def _baseline(condition: Condition) -> tuple[str, ...]:
    effect = ("", "") if condition.effect is None else _effect(condition.effect, None)
    return (condition_label(condition.name), *_rate(condition.rate), *effect, "", "", "")


def _rate(rate: Rate) -> tuple[str, str]:
    return shown_rate(rate), decimal(100 * rate.balanced, 1)


def _effect(effect: Effect, adjusted_p: float | None) -> tuple[str, str]:
    return shown(effect), shown_p(effect.p_value if adjusted_p is None else adjusted_p)


def _nulls(m: MethodResult) -> tuple[str, str]:
    found = {null.name: shown(null.effect) for null in m.nulls if null.effect is not None}
    return found.get(ConditionName.RANDOM, ""), found.get(ConditionName.SHUFFLED, "")


def _costs(comparison: Comparison) -> Table:
    head = (
        "",
        "chosen cell",
        "dose",
        "of cells",
        "KL",
        "ppl ×",
        "unrelated, pp (95 %)",
        "fit, s",
        "bytes",
        "time × (95 %)",
    )
    return Table("What it costs; KL in nats per token", head, tuple(map(_cost, comparison.methods)))


def _cost(m: MethodResult) -> tuple[str, ...]:
    side, cost = m.side_effects, m.cost
    return (
        m.method if m.method == m.fitted else f"{m.method}: {m.fitted}",
        f"{m.hook_point} × {compact(m.strength)}",
        decimal(m.dose),
        f"{m.cells_compared}",
        decimal(side.kl, 3),
        decimal(side.perplexity_ratio),
        shown(side.unrelated_effect),
        decimal(cost.fit_seconds, 1),
        f"{cost.artefact_bytes:,}",
        shown_number(cost.time_ratio, cost.time_ratio_interval),
    )


def _at_budget(comparison: Comparison) -> Table:
    head = ("", "strength", "dose", "KL", "ppl ×", "right, % (95 %)", "effect, pp (95 %)", "p (Holm)")
    rows, found = [], []
    for i, m in enumerate(comparison.methods):
        b = m.at_budget
        assert b is not None  # a budget was given, so every method has been set to it
        kl = decimal(b.kl, 3) if b.reached else f"{decimal(b.kl, 3)}, not reached"
        rows.append(
            (
                m.method,
                compact(b.strength),
                decimal(b.dose),
                kl,
                decimal(b.perplexity_ratio),
                _rate(b.rate)[0],
                *_effect(b.effect, b.p_holm),
            )
        )
        found += [i] if b.effect.found else []
    title = f"At equal cost: KL {compact(comparison.equal_kl)} nats per token on neutral text"
    return Table(title, head, tuple(rows), tuple(found))


def heading(comparison: Comparison) -> str:
    """What was compared on which items, in one line."""
    c = comparison
    return f"{c.data_name} on {c.model_id}: train {c.n_train}, validation {c.n_validation}, test {c.n_test} items"


def account(comparison: Comparison) -> Account:
    """One data set of a comparison."""
    left = tuple(f"left out: {one.method}: {one.reason}" for one in comparison.left_out)
    told = next((c.detail for c in comparison.baselines if c.name == ConditionName.PROMPT), "")
    prompt = f"prompt baseline: {told or 'no fair prompt was given or found; give one with --prompt'}"
    said = (prompt, *left)
    return Account(heading(comparison), tables(comparison), said, verdict(comparison), title=comparison.data_name)


def to_markdown(log: ComparisonLog) -> str:
    """The tables as a page can include them: an overview of several data sets, and a chapter per data set."""
    whole = across(log)
    chapters = ([] if whole is None else [whole]) + [account(one) for one in log.comparisons]
    return "\n".join(map(account_markdown, chapters))


def verdict(comparison: Comparison) -> str:
    """One sentence: how many methods moved the behaviour, and which one the most."""
    found = comparison.standing
    if not found:
        return f"No method has an effect on {comparison.data_name} that remains after Holm's adjustment."
    best = max(found, key=lambda m: m.effect.value)
    cleared = sum(m.clears_nulls for m in found)
    have = "has" if len(found) == 1 else "have"
    return (
        f"{len(found)} of {len(comparison.methods)} methods {have} an effect on {comparison.data_name} "
        f"(Holm p < 0.05), {cleared} beyond their nulls; the largest is {best.method}'s, "
        f"{points(best.effect.value)} to {percent(best.rate.value)}."
    )
