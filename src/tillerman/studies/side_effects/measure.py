"""The behaviour, an unrelated task, neutral text and free texts under every strength."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from tillerman.core.errors import MetricError
from tillerman.core.plan import Plan
from tillerman.data.duplicates import clean_split
from tillerman.data.loading import load_examples
from tillerman.data.presenting import present
from tillerman.data.prompts_file import SAMPLE, Ask, load_asks
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.scorers.registry import text_scorers
from tillerman.evaluation.side_effects import Windows
from tillerman.logs.study import Trial
from tillerman.pipeline.side_effects import make_meter
from tillerman.steering.generation import Sampling, continuations
from tillerman.studies.base import Lab, cost_trials, trial_of
from tillerman.studies.side_effects.options import BEHAVIOUR, UNRELATED, UNSTEERED, SideEffectsOptions, case_of_factor

_TEXT_SCORERS = ("fluency", "distinct:2", "repetition", "length")


def measure(lab: Lab, options: SideEffectsOptions) -> Iterator[Trial]:
    """The behaviour, an unrelated task and neutral text under every strength. What is not a finite number gives no
    trial: steering breaks the model there, and no mean can say so."""
    factors = sorted(options.factors)
    plans: dict[str, Plan] = {case_of_factor(factor): lab.plan(factor) for factor in factors}
    for what, exam in ((BEHAVIOUR, lab.exam), (UNRELATED, _unrelated(lab, options))):
        with lab.stage(what, (1 + len(plans)) * len(exam.items)) as progress:
            found = lab.right(exam, {UNSTEERED: (), **plans}, progress)
        for factor in (0.0, *factors):
            name = case_of_factor(factor) if factor else UNSTEERED
            yield trial_of(what, name, exam, found[name], at=_dose(lab, factor))
    yield from _neutral(lab, factors, plans)
    doses = {case_of_factor(factor): _dose(lab, factor) for factor in factors}
    yield from _written(lab, {UNSTEERED: (), **plans}, {UNSTEERED: 0.0, **doses}, options.text_tokens)


def _dose(lab: Lab, factor: float) -> float:
    return lab.cell.scaled(factor).dose(lab.steering)


def _unrelated(lab: Lab, options: SideEffectsOptions) -> Exam:
    loaded = load_examples(lab.run.experiment.unrelated)
    share = clean_split(loaded.examples, shares=(0.0, 0.0, 1.0), sizes=(None, None, options.unrelated_items)).test
    return lab.exam_of(present(share), lab.run.bare_writer.calibrated({}))


def _neutral(lab: Lab, factors: Sequence[float], plans: dict[str, Plan]) -> Iterator[Trial]:
    meter = make_meter(lab.run)

    def windows() -> dict[str, Tensor]:
        with lab.stage("neutral text", len(plans) * meter.passes) as progress:
            found = meter.windows(list(plans.values()), progress)
        kept = {f"{k} {name}": getattr(one, name) for k, one in enumerate(found) for name in ("steered", "kl")}
        return {"unsteered": found[0].unsteered, **kept}

    kept = lab.store.tensors("neutral text", windows)
    for k, factor in enumerate(factors):
        one, name = Windows(kept["unsteered"], kept[f"{k} steered"], kept[f"{k} kl"]), case_of_factor(factor)
        found = cost_trials(name, one, at=_dose(lab, factor))
        yield from (replace(trial, case=trial.condition, condition=name) for trial in found)


def _written(lab: Lab, plans: Mapping[str, Plan], doses: Mapping[str, float], tokens: int) -> Iterator[Trial]:
    """The same beginnings continued under every plan, with the same random numbers. A text that a scorer cannot
    read (an empty one) has no value; a strength that breaks the model has no text."""
    asks = load_asks(SAMPLE)
    prompts = [_prompt(lab, ask) for ask in asks]
    sampling = Sampling(tokens, temperature=0.7, seed=lab.options.seed)
    with lab.stage("free texts", len(plans) * len(asks)) as progress:
        for condition, plan in plans.items():
            make = partial(continuations, lab.opened, prompts, [plan] * len(prompts), sampling)
            try:
                texts: list[str] = lab.store.value(f"texts {condition} {tokens}", make)
            except MetricError:  # a strength that breaks the model writes nothing
                continue
            finally:
                progress(len(asks))
            for scorer in text_scorers(_TEXT_SCORERS):
                scored = zip(asks, texts, scorer.score([ask.shown for ask in asks], texts), strict=True)
                kept = [(ask.start, value, text) for ask, text, value in scored if value is not None]
                if kept:
                    starts, found, said = zip(*kept, strict=True)
                    at = doses[condition]
                    yield Trial(scorer.name, condition, starts, found, texts=said, at=at, scorer=scorer.name)


def _prompt(lab: Lab, ask: Ask) -> tuple[int, ...]:
    writer = lab.run.bare_writer
    return writer.encode(writer.reply_text(ask.prompt) + ask.start if writer.template == "chat" else ask.start)
