"""Step ``fit``: search on the validation items, one test of what was chosen."""

from __future__ import annotations

from dataclasses import replace

from tillerman.core.store import Store
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.reproduction import Measured, Piece
from tillerman.pipeline.flow import evaluate, fit
from tillerman.recipes.steps.work import Work, of_effect, of_interval, of_rate, of_value

_CONDITIONS = {
    "prompt": "prompt_effect",
    "icl": "icl_effect",
    "null:random": "null_random",
    "null:shuffled": "null_shuffled",
}


def run_fit(work: Work, shared: Store) -> list[Piece]:
    """``shared`` holds what arms of one task and seed have in common."""
    outcome = fit(work.experiment, work.opened, work.data(), store=shared, watch=work.watch)
    log = outcome.log
    test = work.source.load_test(work.limit)
    if test is not None:
        asked = replace(work.experiment, shares=(0.0, 0.0, 1.0), max_test=None)
        log = evaluate(outcome.artefact, asked, work.opened, test, watch=work.watch)
    cell = f"{log.method}, {log.hook_point} × {log.strength:.3g}" if log.strength else "abstains"
    return [work.piece(_figures(log), cell=cell)]


def _figures(log: EvaluationLog) -> dict[str, Measured]:
    side, steered = log.side_effects, log.condition("steered")
    found = {
        "unsteered": of_rate(log.condition("unsteered").rate),
        "right": of_rate(steered.rate),
        "effect": of_effect(log.effect),
    }
    for one in log.conditions:
        if one.name in _CONDITIONS and one.effect is not None:
            found[_CONDITIONS[one.name]] = of_effect(one.effect)
    return found | {
        "perplexity_ratio": of_interval(side.perplexity_ratio, side.perplexity_ratio_interval, side.tokens),
        "kl": of_value(side.kl, side.tokens),
        "unrelated_effect": of_effect(side.unrelated_effect),
        "dose": of_value(log.dose),
    }
