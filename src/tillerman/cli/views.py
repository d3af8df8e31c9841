"""Logs as tables for people and as flat JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tillerman.core.finding import Finding
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.logs.study import StudyLog
from tillerman.logs.table import Table as TextTable
from tillerman.logs.verdict import Verdict
from tillerman.reports.sentences import gate_words, nested_words, unrelated_words
from tillerman.reports.verdict import judge_log
from tillerman.statistics.values import Effect, Interval, Rate

NAMES = {
    "unsteered": "unsteered",
    "steered": "steered",
    "ungated": "steered, no gate",
    "turned": "steered, all orders",
    "constant": "constant answer",
    "prompt": "prompt baseline",
    "both": "prompt and steered",
    "icl": "few-shot baseline",
    "lora": "fine-tuned",
    "null:random": "null: random",
    "null:shuffled": "null: shuffled",
}


def summary(log: EvaluationLog) -> dict[str, Any]:
    """The stable keys of ``--json``; ``conditions`` and what follows hold the detail."""
    values = {c.name: c.rate.value for c in log.conditions}
    nulls = {c.name.removeprefix("null:"): _effect(c) for c in log.conditions if c.name.startswith("null:")}
    effects = {c.name: _effect(c) for c in log.conditions if c.effect is not None}
    judged = judge_log(log)
    equivalence = log.side_effects.unrelated_equivalence
    result: dict[str, Any] = {
        "data": log.data_name,
        "model": log.model_id,
        "method": log.method,
        "hook_point": log.hook_point,
        "strength": log.strength,
        "dose": log.dose,
        "scope": log.scope,
        "n_train": log.n_train,
        "n_validation": log.n_validation,
        "n_test": log.n_test,
        "unsteered": values["unsteered"],
        "steered": values["steered"],
        "effect": log.effect.value,
        "interval": [log.effect.interval.low, log.effect.interval.high],
        "p_value": log.effect.p_value,
        "effect_found": log.effect.found,
        "effect_letter_balanced": log.effect.balanced,
        "effect_all_option_orders": effects.get("turned"),
        "verdict": judged.outcome,
        "verdict_words": judged.words,
        "constant_answer": values.get("constant"),
        "prompt_baseline": values.get("prompt"),
        "prompt_and_steered": values.get("both"),
        "icl_baseline": values.get("icl"),
        "lora_baseline": values.get("lora"),
        "ungated": values.get("ungated"),
        "gate": None if log.gate is None else asdict(log.gate),
        "nulls": nulls,
        "perplexity_ratio": log.side_effects.perplexity_ratio,
        "kl": log.side_effects.kl,
        "unrelated_effect": log.side_effects.unrelated_effect.value,
        "unrelated_equivalent": None if equivalence is None else equivalence.equivalent,
        "minimum_detectable_effect": None if log.power is None else log.power.minimum,
        "optimism": None if log.nested is None else log.nested.optimism,
        "nested": None if log.nested is None else asdict(log.nested),
        "cells_compared": log.cells_compared,
        "seconds": round(log.seconds, 2),
        "notes": list(log.notes),
    }
    if log.seeds is not None:
        result["seeds"] = {
            "mean": log.seeds.mean,
            "interval": [log.seeds.interval.low, log.seeds.interval.high],
            "p_value": log.seeds.p_value,
            "n": len(log.seeds.seeds),
        }
    return result


def _effect(condition: Condition) -> dict[str, Any]:
    assert condition.effect is not None  # nulls are compared with unsteered
    interval = condition.effect.interval
    return {"effect": condition.effect.value, "interval": [interval.low, interval.high]}


def verdict(log: EvaluationLog) -> str:
    """One sentence that says whether it worked, and whether a control explains it."""
    e, judged = log.effect, judge_log(log)
    numbers = f"{points(e.value)} pp, 95 % interval {span(e.interval)}, n = {e.n}, p = {e.p_value:.2g}"
    if e.interval.high < 0:
        return f"Steering made {log.data_name} worse: {numbers}."
    if not e.found:
        return f"No effect found on {log.data_name}: {numbers}."
    found = f"Effect found on {log.data_name}: {numbers}."
    return found if judged.outcome == "good" else f"{found}\nVerdict: {judged.outcome}. {judged.words}"


def conditions_table(log: EvaluationLog) -> Table:
    title = f"{log.data_name}, {log.n_test} test items, model {log.model_id}"
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("condition", no_wrap=True)
    for name in ("right, %", "95 %", "balanced", "effect, pp", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for c in log.conditions:
        effect = ("", "") if c.effect is None else (points(c.effect.value), span(c.effect.interval))
        style = "bold" if c.name == "steered" else None
        table.add_row(
            NAMES.get(c.name, c.name),
            percent(c.rate),
            interval(c.rate),
            f"{100 * c.rate.balanced:.1f}",
            *effect,
            style=style,
        )
    return table


def facts(log: EvaluationLog) -> list[str]:
    side = log.side_effects
    chosen = f"{log.method} at {log.hook_point}, strength {log.strength:.3g} (dose {log.dose:.2f}), scope {log.scope}"
    cells = f", best of {log.cells_compared} cells compared on {log.n_validation} validation items"
    ratio = side.perplexity_ratio_interval
    lines = [
        chosen + (cells if log.cells_compared else ""),
        f"side effects, steered on every token of {side.text} ({side.tokens} tokens): perplexity x "
        f"{side.perplexity_ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), KL {side.kl:.3f} nats per token",
        f"unrelated task {side.unrelated_task}: {percent(side.unrelated_unsteered)} % unsteered, "
        f"{points(side.unrelated_effect.value)} pp ({span(side.unrelated_effect.interval)}) steered, "
        f"n = {side.unrelated_effect.n}",
    ]
    if side.unrelated_equivalence is not None:
        lines.append(f"unrelated task {unrelated_words(side.unrelated_equivalence)}")
    if log.gate is not None:
        lines.append(gate_words(log))
    if log.nested is not None:
        lines.append(nested_words(log))
    if log.seeds is not None:
        s = log.seeds
        lines.append(
            f"over {len(s.seeds)} seeds: {points(s.mean)} pp, t-interval {span(s.interval)}, p = {s.p_value:.2g}"
        )
    return [*lines, *(f"note: {note}" for note in log.notes)]


def overview_table(logs: Sequence[EvaluationLog]) -> Table:
    """Two lines per behaviour, 80 columns: figures, and below them the chosen cell and the second null."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("behaviour\n[dim]method, layer, dose", no_wrap=True)
    heads = ("right,\n%", "effect,\npp, 95 %", "prompt", "few-\nshot", "null: random,\nshuffled, pp", "ppl x")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for log in logs:
        values = {c.name: f"{100 * c.rate.value:.0f}" for c in log.conditions}
        effects = {c.name: c.effect for c in log.conditions if c.effect is not None}
        nulls = [
            "{} ({})".format(*_whole(effects[name])) for name in ("null:random", "null:shuffled") if name in effects
        ]
        table.add_row(
            f"{log.data_name}\n[dim]{log.method}, {log.hook_point.split('.')[1]}, {log.dose:.2f}",
            f"{values['unsteered']} → [bold]{values['steered']}[/bold]",
            "[bold]{}[/bold]\n{}".format(*_whole(log.effect)),
            values.get("prompt", ""),
            values.get("icl", ""),
            "\n".join(nulls),
            f"{log.side_effects.perplexity_ratio:.1f}",
        )
    return table


def overall(logs: Sequence[EvaluationLog]) -> str:
    """How many behaviours moved, and how many of these beside silent nulls."""
    found = [log for log in logs if log.effect.found]
    silent = [
        log
        for log in found
        if not any(c.effect is not None and c.effect.found for c in log.conditions if c.name.startswith("null"))
    ]
    lost = ", ".join(log.data_name for log in logs if log not in found)
    return f"Effect found on {len(found)} of {len(logs)} behaviours, beside silent nulls on {len(silent)}." + (
        f" None on {lost}." if lost else ""
    )


def _whole(effect: Effect) -> tuple[str, str]:
    low, high = effect.interval.low, effect.interval.high
    return f"{100 * effect.value:+.0f}", f"{100 * low:.0f} to {100 * high:.0f}"


def findings_table(findings: Sequence[Finding]) -> Table:
    table = Table(title="Data diagnostics")
    for name in ("level", "check", "finding"):
        table.add_column(name)
    colours = {"error": "red", "warning": "yellow", "note": "cyan", "ok": "green"}
    for f in findings:
        table.add_row(f"[{colours[f.level]}]{f.level}[/]", f.check, f.message)
    return table


def percent(rate: Rate) -> str:
    return f"{100 * rate.value:.1f}"


def interval(rate: Rate) -> str:
    return f"{100 * rate.interval.low:.1f} to {100 * rate.interval.high:.1f}"


def points(share: float) -> str:
    return f"{100 * share:+.1f}"


def span(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


def table_view(table: TextTable) -> Table:
    """Intervals below their values, so that a row fits a terminal."""
    view = Table(title=table.title, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(table.head):
        view.add_column(name.replace(" ", "\n"), justify="right" if i else "left", no_wrap=i == 0, overflow="fold")
    for i, row in enumerate(table.rows):
        view.add_row(*map(_below, row), style="bold" if i in table.strong else None)
    return view


def _below(words: str) -> str:
    return words.replace(" (", "\n(").replace(" × ", "\n× ").replace("[", "\\[")


_COLOURS = {"good": "green", "mixed": "yellow", "bad": "red", "unclear": "cyan"}


def print_verdicts(console: Console, log: EvaluationLog, studies: Sequence[StudyLog]) -> None:
    """What the evaluation and each study say."""
    print_verdict(console, "evaluation", judge_log(log))
    for study in studies:
        print_verdict(console, study.study, study.verdict)


def print_verdict(console: Console, name: str, verdict: Verdict) -> None:
    console.print(f"[{_COLOURS[verdict.outcome]}]{name}: {verdict.outcome}.[/]", end=" ", highlight=False)
    console.print(verdict.words, style="bold", highlight=False, markup=False)
