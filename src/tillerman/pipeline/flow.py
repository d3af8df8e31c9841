"""The main job on one screen: examples -> contrast -> vectors -> chosen cell -> tested, with nulls."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tillerman.core.artefact import Artefact
from tillerman.core.finding import Finding
from tillerman.core.hookpoint import named
from tillerman.core.provenance import Card
from tillerman.core.shown import Shown
from tillerman.core.store import Store
from tillerman.data.diagnostics import diagnose
from tillerman.data.loading import LoadedData, Source, as_loaded
from tillerman.data.presenting import shown_orders
from tillerman.evaluation.side_effects import DriftMeter
from tillerman.logs.cards import evaluation_on
from tillerman.logs.evaluation import EvaluationLog, GateTrial, SeedResult, SeedSummary
from tillerman.models.grid import branch_fault
from tillerman.models.opened import OpenModel
from tillerman.pipeline.dose_range import dose_range
from tillerman.pipeline.effect_forecast import foretold
from tillerman.pipeline.example_texts import coherence, example_texts
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.gates import ensure_prompts, fitted_gate, gate_data, gate_figures, opens
from tillerman.pipeline.held_out import Answers, Null, ask, ask_baselines, ask_searched, gated, run_conditions
from tillerman.pipeline.nested import nested_folds
from tillerman.pipeline.per_item import every_item, measure_bias
from tillerman.pipeline.presets import as_dear_as_fitted
from tillerman.pipeline.prompt_search import found_by_fit
from tillerman.pipeline.run import Run, Unwatched, Watch
from tillerman.pipeline.search import NULLS, Choice, choose, choose_nulls, log_cells, null_vectors
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import curve_note, dose_curve, make_meter, measure_drift, measure_side_effects
from tillerman.pipeline.written import written_replies
from tillerman.pipeline.written_search import choose_written
from tillerman.reports.numbers import decimal
from tillerman.statistics.estimates import effect, t_interval
from tillerman.statistics.power import foreseen

NOT_SEARCHED = "no search of its own, since steering shows no effect that it could cast doubt on"
# What ``fast`` leaves out.
UNCHECKED = ("random directions and shuffled labels", "a prompt and exemplars", "the texts it writes")


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Shown):
    """A fitted, evaluated artefact and the log of how it was judged; ``tuned`` is the model it belongs to, where
    that was fine-tuned first."""

    artefact: Artefact
    log: EvaluationLog
    tuned: OpenModel | None = None

    def shown(self) -> dict[str, object]:
        log = self.log
        items = f"{log.n_train} train, {log.n_validation} validation, {log.n_test} test"
        return {**self.artefact.shown(), "items": items}


def fit(
    experiment: Experiment,
    opened: OpenModel,
    data: LoadedData | Source,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Labelled examples in, an evaluated steering vector out.

    Train items make the vectors, validation items choose method, hook point and strength, test items
    are looked at once, under every condition. ``store`` keeps finished pieces over interruptions.
    """
    started = time.monotonic()
    run = set_up(experiment, opened, data, store or Store(None, ""), watch or Unwatched())
    gating = None if experiment.gate is None else gate_data(run, experiment.gate)
    ready, saved = time.monotonic(), run.store.saved
    meter = make_meter(run)
    choice = choose_written(run, meter) if experiment.objective == "written" else choose(run, meter)
    to_choose = time.monotonic() - ready + run.store.saved - saved
    nested = None if experiment.nested is None else nested_folds(run, meter, experiment.nested)
    gate, trial = (None, None) if gating is None else fitted_gate(run, gating, choice.cell.points)
    chosen = Artefact(choice.fitted.vector, choice.cell, gate)
    doses = None if experiment.fast else dose_range(run, choice, meter)
    if run.validation.kept is not None:
        run.validation.kept.forget_passes()  # what is left to ask of these items asks them otherwise
    answers, nulls = _asked(run, choice, chosen, () if experiment.fast else NULLS)
    tested = _tested(run, chosen, answers, nulls, meter, trial)
    log = replace(
        tested,
        cells=log_cells(run, choice),
        cells_compared=len(choice.scored),
        of_cells=len(choice.grid),
        unchecked=UNCHECKED if experiment.fast else (),
        objective=experiment.objective,
        dose_range=doses,
        forecast=foretold(run),
        notes=(
            *_notes(run),
            *tested.notes,
            *choice.notes,
            *choice.skipped,
            *choice.fitted.method.report(choice.fitted.vector.provenance.found),
        ),
        seconds=time.monotonic() - started,
        seconds_to_choose=to_choose,
        nested=nested,
    )
    return Outcome(replace(chosen, card=Card(log.for_card())), log, run.opened if experiment.base_lora else None)


def evaluate(
    artefact: Artefact,
    experiment: Experiment,
    opened: OpenModel,
    data: LoadedData | Source,
    *,
    watch: Watch | None = None,
) -> EvaluationLog:
    """Test a finished artefact on data, at its own hook point, strength and scope.

    Items are split as for a fit, so that on the data it was fitted on only its test share is used.
    Of the nulls only the random direction can be made without the training activations.
    """
    started = time.monotonic()
    (item,) = artefact.plan()
    cell = artefact.cell
    # The model given is the artefact's own: where it was fine-tuned, it has been.
    asked, eyes = replace(experiment, scope=str(cell.scope), base_lora=False), watch or Unwatched()
    if asked.calibrate and asked.calibration is None:  # as its fit measured it, if it did
        asked = replace(asked, calibration=artefact.steering.provenance.options.get("calibration"))
    run = set_up(as_dear_as_fitted(asked, artefact), opened, data, Store(None, ""), eyes, needed=("test",))
    run = replace(run, found=None if experiment.behaviour else found_by_fit(artefact))
    draws = tuple(item.steering.random_like(seed) for seed in experiment.null_seeds)
    null = Null("null:random", draws, cell.at(cell.strength or 1.0).for_draw(draws[0]))
    if artefact.gate is not None:
        ensure_prompts(run)
    answers = ask(run, artefact, (null,))
    log = _tested(run, artefact, answers, (null,), make_meter(run), _trial_of(artefact))
    return replace(log, notes=(*_notes(run), *log.notes), seconds=time.monotonic() - started)


def fit_seeds(
    experiment: Experiment,
    seeds: Sequence[int],
    opened: OpenModel,
    data: LoadedData | Source,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """One ``fit`` per seed (its own split, option orders and nulls); the artefact is the first seed's,
    the log carries the mean effect over seeds with its t-interval (PAS section 4)."""
    data = as_loaded(data)  # once: rows may come from an iterator
    outcomes = [fit(replace(experiment, seed=s), opened, data, store=store, watch=watch) for s in seeds]
    first = outcomes[0]
    if len(outcomes) == 1:
        return first
    results = tuple(_seed_result(seed, outcome.log) for seed, outcome in zip(seeds, outcomes, strict=True))
    log = replace(
        first.log,
        seeds=SeedSummary(*t_interval([result.effect for result in results]), results),
        seconds=sum(outcome.log.seconds for outcome in outcomes),
    )
    return replace(first, artefact=replace(first.artefact, card=Card(log.for_card())), log=log)


def run_key(
    experiment: Experiment, seeds: Sequence[int], opened: OpenModel, data: LoadedData, *, any_method: bool = False
) -> str:
    """Names a run for its store: same key, same numbers (for ``any_method``: of the same method)."""
    options = experiment.to_json() | ({"method": None} if any_method else {})
    facts: list[Any] = [options, list(seeds), opened.fingerprint, opened.template_hash, data.digest]
    if not any_method:  # other files may have taken the place of those an interrupted run read
        facts.append(experiment.sources)
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def diagnostics(run: Run) -> tuple[Finding, ...]:
    """Of all items together, with the option orders they are really shown in."""
    items = (*run.train.items, *run.validation.items, *run.test.items)
    return diagnose([item.example for item in items], run.split, orders=shown_orders(items))


def _trial_of(artefact: Artefact) -> GateTrial | None:
    """What the card tells of the gate's fit."""
    log = None if artefact.card is None else evaluation_on(artefact.card)
    return None if log is None or log.gate is None else log.gate.trial


def _asked(run: Run, choice: Choice, chosen: Artefact, names: Sequence[str]) -> tuple[Answers, tuple[Null, ...]]:
    """The answers to the test items, the nulls' too. A null's own search tells what a search finds where there is
    nothing, which is a doubt about an effect: where none is found, nulls are not searched. Where the search abstains
    there is no cell to share, and a null takes its own."""
    draws = {name: null_vectors(run, name, choice) for name in names}
    firsts = {name: mine[0] for name, mine in draws.items()}
    if not choice.cell.strength:
        best = choose_nulls(run, firsts, choice)
        nulls = tuple(Null(f"null:{name}", mine, best[name], best[name]) for name, mine in draws.items())
        return ask(run, chosen, nulls), nulls
    nulls = tuple(
        Null(f"null:{name}", mine, choice.cell.for_draw(mine[0]), unsearched=NOT_SEARCHED)
        for name, mine in draws.items()
    )
    answers = ask(run, chosen, nulls)
    if not nulls or not effect(answers.steered, answers.unsteered, run.test.groups).found:
        return answers, nulls
    best = choose_nulls(run, firsts, choice)
    nulls = tuple(replace(one, best=best[name]) for name, one in zip(draws, nulls, strict=True))
    return ask_searched(run, chosen, answers, nulls), nulls


def _tested(
    run: Run,
    chosen: Artefact,
    answers: Answers,
    nulls: tuple[Null, ...],
    meter: DriftMeter,
    trial: GateTrial | None = None,
) -> EvaluationLog:
    gate, drifts = chosen.gate, measure_drift(run, chosen, meter)
    baselines, texts = ask_baselines(run, chosen), example_texts(run, chosen)
    draws = [null.cell.plan(draw, chosen.gate) for null in nulls if null.name == "null:random" for draw in null.draws]
    return EvaluationLog(
        data_name=run.data.name,
        model_id=run.opened.id,
        method=chosen.steering.provenance.method,
        hook_point=named(chosen.cell.points),
        strength=chosen.cell.strength,
        dose=chosen.dose,
        scope=str(chosen.cell.scope),
        n_train=len(run.train.items),
        n_validation=len(run.validation.items),
        n_test=len(run.test.items),
        conditions=run_conditions(run, chosen, answers, nulls, baselines),
        cells=(),
        cells_compared=0,
        curve=dose_curve(run, chosen, answers, drifts),
        side_effects=measure_side_effects(run, chosen, meter, drifts[1.0]),
        diagnostics=diagnostics(run),
        generations=texts,
        coherence=coherence(run, chosen, texts),
        provenance=chosen.steering.provenance.to_json(),
        constraints=run.experiment.constraints,
        gate=None if gate is None else gate_figures(gate, opens(run.opened, gate, run.test), trial),
        seconds=0.0,
        power=foreseen(len(run.test.items), discordant=float(np.mean(answers.steered != answers.unsteered))),
        bias=measure_bias(run, chosen, answers, baselines),
        items=every_item(run, chosen, answers, baselines),
        written=written_replies(run, gated(chosen), draws),
        prompts=run.prompts.tried if run.kind != "text" else (),
        promptable=run.kind != "text",
        seconds_for_prompt=run.prompts.seconds,
        notes=curve_note(chosen, meter),
    )


def _notes(run: Run) -> tuple[str, ...]:
    notes = [f"every question is {run.base}, also unsteered"] if run.writer.shots else []
    if run.kind != "text" and run.writer.thought_note is not None:
        notes.append(run.writer.thought_note)
    if run.experiment.base_lora:
        notes.append(f"unsteered is {run.base}; the vector belongs to that model and is useless without it")
    if run.calibration is not None:
        bias = ", ".join(f"{answer} {decimal(nats, 2, signed=True)}" for answer, nats in run.calibration.items())
        notes.append(
            f"answers are calibrated under every condition: the unsteered model's bias ({bias} nats) is subtracted "
            "from their log-probabilities before one is chosen"
        )
    asked = run.experiment.base_shots
    if len(run.writer.shots) < asked:
        notes.append(
            f"{len(run.writer.shots)} exemplars instead of {asked}: no more were answered wrong, "
            "or no more fit the context"
        )
    if run.split.dropped:
        notes.append(f"{run.split.dropped} items dropped: near-duplicates of items in a more protected share")
    if run.split.too_long:
        reads = f"longer than the {run.opened.context} tokens that {run.opened.id} reads"
        notes.append(f"{run.split.too_long} items left out: {reads}")
    if run.data.skipped:
        notes += [f"not used: {reason}" for reason in run.data.skipped[:5]]
    if len(run.data.skipped) > 5:
        notes.append(f"not used: {len(run.data.skipped) - 5} more rows")
    fault = branch_fault(run.opened)
    if fault is not None:
        notes.append(f"this model cannot run branches ({fault}); every cell was run in a pass of its own")
    return tuple(notes)


def _seed_result(seed: int, log: EvaluationLog) -> SeedResult:
    unsteered, steered = log.condition("unsteered").rate.value, log.condition("steered").rate.value
    return SeedResult(seed, log.method, log.hook_point, log.strength, unsteered, steered, log.effect.value)
