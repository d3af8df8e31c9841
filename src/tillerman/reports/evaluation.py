"""What one evaluation says: its tables and sentences, for terminal and page alike. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import STEERED, condition_label
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.study import StudyLog
from tillerman.logs.table import Table
from tillerman.reports import sentences as said
from tillerman.reports.account import Account
from tillerman.reports.bias import bias_table, bias_words, moved_wrong_table
from tillerman.reports.numbers import (
    compact,
    decimal,
    percent,
    points,
    shown,
    shown_number,
    shown_p,
    shown_rate,
)
from tillerman.reports.prompts import absent_row, prompt_words, tried_rows
from tillerman.reports.verdict import judgements
from tillerman.reports.written import written_table, written_words


def account(log: EvaluationLog, studies: Sequence[StudyLog] = ()) -> Account:
    """An evaluation as a terminal shows it; pages show more of its tables."""
    return Account(
        said.cell_words(log),
        (
            conditions_table(log),
            *filter(_filled, (bias_table(log), moved_wrong_table(log), written_table(log))),
            side_effects_table(log),
        ),
        sentences(log),
        said.headline(log),
        judgements(log, studies),
    )


def _filled(table: Table) -> bool:
    return bool(table.rows)


def sentences(log: EvaluationLog) -> tuple[str, ...]:
    """What the tables do not say."""
    equivalence = log.side_effects.unrelated_equivalence
    lines = [
        said.search_words(log),
        prompt_words(log),
        said.range_words(log),
        bias_words(log),
        written_words(log),
        "" if equivalence is None else f"Unrelated task: {said.unrelated_words(equivalence)}.",
        said.gate_words(log),
        said.nested_words(log),
        said.seeds_words(log),
        *(f"Caution: {caution}" for caution in said.cautions(log)),
        *(f"Note: {note}" for note in log.notes),
    ]
    return tuple(filter(None, lines))


def conditions_table(log: EvaluationLog) -> Table:
    """Every way of running the model on the test items."""
    rows = []
    for c in log.conditions:
        effect = ("", "") if c.effect is None else (shown(c.effect), shown_p(c.effect.p_value))
        balanced = decimal(100 * c.rate.balanced, 1)
        rows.append((condition_label(c.name), shown_rate(c.rate), balanced, str(c.rate.n), *effect))
    if absent := absent_row(log):
        rows.append((absent, "", "", "", "", ""))
    strong = tuple(i for i, c in enumerate(log.conditions) if c.name == STEERED)
    head = ("condition", "right, % (95 %)", "balanced, %", "n", "effect, pp (95 %)", "p (McNemar)")
    return Table(f"{log.data_name}, {log.n_test} test items, model {log.model_id}", head, tuple(rows), strong)


def details_table(log: EvaluationLog) -> Table:
    """What was done under each condition: the prompt, the number of shots, the null's cell; and all prompts tried."""
    rows = tuple((condition_label(c.name), c.detail) for c in log.conditions if c.detail)
    return Table("What was done", ("condition", "detail"), (*rows, *tried_rows(log)))


def cells_table(log: EvaluationLog) -> Table:
    """Every cell of the search."""
    head = ("method", "hook point", "strength", "dose", "score, %", "KL, nats/token", "perplexity ×", "constraints")
    written = any(c.written is not None for c in log.cells)
    rows = tuple(
        (
            f"{c.method}, read as {c.read}" if c.read else c.method,
            c.hook_point,
            compact(c.strength),
            compact(c.dose),
            decimal(100 * c.score, 1),
            decimal(c.kl, 3),
            decimal(c.perplexity_ratio),
            "kept" if c.admissible else "broken",
            *((decimal(c.written),) if written else ()),
        )
        for c in log.cells
    )
    return Table(f"All {len(log.cells)} cells", (*head, "written, 0 to 1") if written else head, rows)


def folds_table(log: EvaluationLog) -> Table:
    """Every fold of the nested cross-validation."""
    folds = () if log.nested is None else log.nested.folds
    head = (
        "fold",
        "method",
        "hook point",
        "strength",
        "validation, unsteered, %",
        "validation, chosen, %",
        "n",
        "fold, unsteered, %",
        "fold, steered, %",
        "n of fold",
    )
    rows = tuple(
        (
            str(number),
            f.method,
            f.hook_point,
            compact(f.strength),
            decimal(100 * f.validation_unsteered, 1),
            decimal(100 * f.validation, 1),
            str(f.n_validation),
            decimal(100 * f.outer_unsteered, 1),
            decimal(100 * f.outer, 1),
            str(f.n_outer),
        )
        for number, f in enumerate(folds, start=1)
    )
    return Table(f"All {len(folds)} folds", head, rows)


def curve_table(log: EvaluationLog) -> Table:
    """The chosen vector at other doses."""
    head = ("strength", "dose", "right, % (95 %)", "n", "perplexity ×", "KL, nats/token")
    rows = tuple(
        (
            compact(p.strength),
            compact(p.dose),
            shown_rate(p.rate),
            str(p.rate.n),
            decimal(p.perplexity_ratio),
            decimal(p.kl, 3),
        )
        for p in log.curve
    )
    return Table("All doses", head, rows)


def side_effects_table(log: EvaluationLog) -> Table:
    """What should not change, at the chosen strength on every token."""
    side = log.side_effects
    task, before = side.unrelated_effect, side.perplexity_unsteered
    rows = (
        (
            "Perplexity, ratio",
            decimal(before),
            decimal(before * side.perplexity_ratio),
            shown_number(side.perplexity_ratio, side.perplexity_ratio_interval),
        ),
        ("KL to the unsteered model, nats/token", "", "", decimal(side.kl, 3)),
        (
            f"{side.unrelated_task}, right, % (n = {task.n})",
            decimal(100 * side.unrelated_unsteered.value, 1),
            decimal(100 * side.unrelated_steered.value, 1),
            shown(task),
        ),
    )
    title = f"Side effects, steered on every token; text: {side.text} ({side.tokens} tokens)"
    return Table(title, ("measure", "unsteered", "steered", "change (95 %)"), rows)


def seeds_table(log: EvaluationLog) -> Table:
    """Every seed of a fit over several."""
    seeds = () if log.seeds is None else log.seeds.seeds
    head = ("seed", "method", "hook point", "strength", "unsteered, %", "steered, %", "effect, pp")
    rows = tuple(
        (
            str(s.seed),
            s.method,
            s.hook_point,
            compact(s.strength),
            decimal(100 * s.unsteered, 1),
            decimal(100 * s.steered, 1),
            decimal(100 * s.effect, 1, signed=True),
        )
        for s in seeds
    )
    return Table(f"Over {len(seeds)} seeds", head, rows)


def short(log: EvaluationLog) -> str:
    """The evaluation in a few words, for a ``repr``."""
    (judged, *_) = judgements(log)
    before, after = log.condition("unsteered").rate, log.condition(STEERED).rate
    moved = f"{points(log.effect.value)} ({percent(before.value, 0)} to {percent(after.value, 0)})"
    return f"{log.data_name}: {moved}, n = {log.effect.n}, {judged.verdict.outcome}"
