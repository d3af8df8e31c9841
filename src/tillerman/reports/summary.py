"""An evaluation as flat JSON with stable keys: what ``--json`` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tillerman.logs.conditions import NULL
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.reports.bias import only_bias
from tillerman.reports.items import flat_rows
from tillerman.reports.verdict import judge_log
from tillerman.reports.written import written_summary


def summary(log: EvaluationLog, *, items: bool = False) -> dict[str, Any]:
    """The stable keys of ``--json``; ``conditions`` and what follows hold the detail. ``items``: every test item too,
    as the rows of ``--samples``."""
    values = {c.name: c.rate.value for c in log.conditions}
    nulls = {c.name.removeprefix(NULL): _effect(c) for c in log.conditions if c.name.startswith(NULL)}
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
        "interval": log.effect.interval.ends,
        "p_value": log.effect.p_value,
        "effect_found": log.effect.found,
        "effect_letter_balanced": log.effect.balanced,
        "effect_all_option_orders": effects.get("turned"),
        "verdict": judged.outcome,
        "verdict_words": judged.words,
        "constant_answer": values.get("constant"),
        "prompt_baseline": values.get("prompt"),
        "prompt_and_steered": values.get("both"),
        "prompt": log.prompts[0].text or None if log.prompts else None,
        "prompts": [asdict(one) for one in log.prompts],
        "icl_baseline": values.get("icl"),
        "lora_baseline": values.get("lora"),
        "ungated": values.get("ungated"),
        "gate": None if log.gate is None else asdict(log.gate),
        "nulls": nulls,
        "objective": log.objective,
        "written": written_summary(log),
        "perplexity_ratio": log.side_effects.perplexity_ratio,
        "kl": log.side_effects.kl,
        "unrelated_effect": log.side_effects.unrelated_effect.value,
        "unrelated_equivalent": None if equivalence is None else equivalence.equivalent,
        "bias": None if log.bias is None else asdict(log.bias),
        "only_bias": only_bias(log) or None,
        "minimum_detectable_effect": None if log.power is None else log.power.minimum,
        "optimism": None if log.nested is None else log.nested.optimism,
        "nested": None if log.nested is None else asdict(log.nested),
        "cells_compared": log.cells_compared,
        "dose_range": None if log.dose_range is None else [log.dose_range.low, log.dose_range.high],
        "constraints": dict(log.constraints),
        "seconds": round(log.seconds, 2),
        "notes": list(log.notes),
    }
    if log.seeds is not None:
        result["seeds"] = {
            "mean": log.seeds.mean,
            "interval": log.seeds.interval.ends,
            "p_value": log.seeds.p_value,
            "n": len(log.seeds.seeds),
        }
    if items:
        result["items"] = flat_rows(log.items)
    return result


def _effect(condition: Condition) -> dict[str, Any]:
    assert condition.effect is not None  # nulls are compared with unsteered
    interval = condition.effect.interval
    return {"effect": condition.effect.value, "interval": interval.ends}
