"""What becomes of free texts at every strength: n-gram entropy (STA, arXiv 2505.20322, section 4.1), distinct
bigrams, repetition, length. A part of the study of side effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from tillerman.core.errors import MetricError
from tillerman.core.plan import Plan
from tillerman.data.prompts_file import SAMPLE, Ask, load_asks
from tillerman.evaluation.scorers.registry import text_scorers
from tillerman.logs.study import Trial
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal
from tillerman.statistics.estimates import bootstrap_mean
from tillerman.steering.generation import Sampling, continuations
from tillerman.studies.base import Lab
from tillerman.studies.trials import values

SCORERS = ("fluency", "distinct:2", "repetition", "length")
UNITS = {
    "fluency": "n-gram entropy, bits (95 %)",
    "distinct:2": "distinct bigrams, share (95 %)",
    "repetition": "repeated runs, share (95 %)",
    "length": "words (95 %)",
}


def written(lab: Lab, plans: Mapping[str, Plan], doses: Mapping[str, float], tokens: int) -> Iterator[Trial]:
    """The same beginnings continued under every plan, with the same random numbers. A text that a scorer cannot
    read (an empty one) has no value; a strength that wrecks the model has no text."""
    asks = load_asks(SAMPLE)
    prompts = [_prompt(lab, ask) for ask in asks]
    sampling = Sampling(tokens, temperature=0.7, seed=lab.options.seed)
    with lab.stage("free texts", len(plans) * len(asks)) as progress:
        for condition, plan in plans.items():
            make = partial(continuations, lab.opened, prompts, [plan] * len(prompts), sampling)
            try:
                texts: list[str] = lab.store.value(f"texts {condition} {tokens}", make)
            except MetricError:  # a strength that wrecks the model writes nothing
                continue
            finally:
                progress(len(asks))
            for scorer in text_scorers(SCORERS):
                scored = zip(asks, texts, scorer.score([ask.shown for ask in asks], texts), strict=True)
                kept = [(ask.start, value, text) for ask, text, value in scored if value is not None]
                if kept:
                    starts, found, said = zip(*kept, strict=True)
                    at = doses[condition]
                    yield Trial(scorer.name, condition, starts, found, texts=said, at=at, scorer=scorer.name)


def _prompt(lab: Lab, ask: Ask) -> tuple[int, ...]:
    writer = lab.run.bare_writer
    return writer.encode(writer.prompt_text(ask.prompt) + ask.start if writer.template == "chat" else ask.start)


def texts_table(trials: Sequence[Trial], conditions: Sequence[str]) -> Table:
    """A row per strength, a column per measure. An empty cell: no text could be measured."""
    names = [name for name in dict.fromkeys(t.scorer for t in trials) if name in UNITS]
    rows = []
    for condition in conditions:
        mine = {t.scorer: t for t in trials if t.condition == condition and t.scorer in UNITS}
        rows.append((condition, *(_cell(mine[name]) if name in mine else "" for name in names)))
    strong = tuple(i for i, condition in enumerate(conditions) if condition == "unsteered")
    return Table("Free texts", ("strength", *(UNITS[name] for name in names)), tuple(rows), strong)


def _cell(trial: Trial) -> str:
    interval = bootstrap_mean(values(trial))
    return f"{decimal(sum(trial.values) / len(trial.values))} ({decimal(interval.low)} to {decimal(interval.high)})"
