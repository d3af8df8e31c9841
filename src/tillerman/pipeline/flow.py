"""The main job on one screen: examples -> contrast -> vectors -> chosen cell -> tested, with nulls."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tillerman.core.artefact import Artefact
from tillerman.core.finding import Finding
from tillerman.core.hookpoint import named
from tillerman.core.provenance import Card
from tillerman.core.store import Store
from tillerman.data.diagnostics import diagnose
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import shown_orders
from tillerman.evaluation.log import EvaluationLog, GateTrial, SeedResult, SeedSummary
from tillerman.evaluation.power import foreseen
from tillerman.evaluation.statistics import t_interval
from tillerman.methods.fit import random_like
from tillerman.methods.report import found_lines
from tillerman.models.grid import branch_fault
from tillerman.models.opened import OpenModel
from tillerman.pipeline.bench import Bench, Unwatched, Watch, set_up
from tillerman.pipeline.choosing import NULLS, choose, choose_null, log_cells, null_vectors
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.gating import ensure_prompts, fitted_gate, gate_data, gate_figures, opens
from tillerman.pipeline.nesting import nested_folds
from tillerman.pipeline.testing import (
    Chosen,
    Control,
    ask,
    dose_curve,
    example_texts,
    make_meter,
    measure_drift,
    measure_side_effects,
    run_conditions,
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A fitted, evaluated artefact and the log of how it was judged; ``tuned`` is the model it belongs to, where
    that was fine-tuned first."""

    artefact: Artefact
    log: EvaluationLog
    tuned: OpenModel | None = None


def fit(
    experiment: Experiment,
    opened: OpenModel,
    data: LoadedData,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Labelled examples in, an evaluated steering vector out.

    Train items make the vectors, validation items choose method, hook point and strength, test items
    are looked at once, under every condition. ``store`` keeps finished pieces over interruptions.
    """
    started = time.monotonic()
    bench = set_up(experiment, opened, data, store or Store(None, ""), watch or Unwatched())
    gating = None if experiment.gate is None else gate_data(bench, experiment.gate)
    ready, saved = time.monotonic(), bench.store.saved
    meter = make_meter(bench)
    choice = choose(bench, meter)
    to_choose = time.monotonic() - ready + bench.store.saved - saved
    nested = None if experiment.nested is None else nested_folds(bench, meter, experiment.nested)
    controls = []
    candidate = choice.cell.candidate
    for null in NULLS:
        draws = null_vectors(bench, null, choice)
        best = choose_null(bench, null, draws[0], choice).candidate
        # Where the search abstains there is no cell to share; the null then takes its own.
        cell = candidate if candidate.strength else best
        controls.append(Control(f"null:{null}", draws, cell.points, cell.strength, best))
    scope = bench.scope(choice.fitted.vector.provenance.method)
    gate, trial = (None, None) if gating is None else fitted_gate(bench, gating, candidate.points)
    chosen = Chosen(choice.fitted.vector, candidate.points, candidate.strength, scope, gate)
    log = replace(
        _tested(bench, chosen, tuple(controls), trial),
        cells=log_cells(bench, choice.cells),
        cells_compared=len(choice.cells),
        notes=(*_notes(bench), *choice.skipped, *found_lines(choice.fitted.vector.provenance.found)),
        seconds=time.monotonic() - started,
        seconds_to_choose=to_choose,
        nested=nested,
    )
    return Outcome(_artefact(chosen, log), log, bench.opened if experiment.base_lora else None)


def evaluate(
    artefact: Artefact,
    experiment: Experiment,
    opened: OpenModel,
    data: LoadedData,
    *,
    watch: Watch | None = None,
) -> EvaluationLog:
    """Test a finished artefact on data, at its own hook point, strength and scope.

    Items are split as for a fit, so that on the data it was fitted on only its test share is used.
    Of the nulls only the random direction can be made without the training activations.
    """
    started = time.monotonic()
    (item,) = artefact.plan()
    # The model given is the artefact's own: where it was fine-tuned, it has been.
    asked, eyes = replace(experiment, scope=str(item.scope), base_lora=False), watch or Unwatched()
    bench = set_up(asked, opened, data, Store(None, ""), eyes, needed=("test",))
    draws = tuple(random_like(item.steering, seed) for seed in experiment.null_seeds)
    control = Control("null:random", draws, item.steering.points, item.strength or 1.0)
    chosen = Chosen(item.steering, item.steering.points, item.strength, item.scope, item.gate)
    if item.gate is not None:
        ensure_prompts(bench)
    log = _tested(bench, chosen, (control,), _trial_of(artefact))
    return replace(log, notes=_notes(bench), seconds=time.monotonic() - started)


def fit_seeds(
    experiment: Experiment,
    seeds: Sequence[int],
    opened: OpenModel,
    data: LoadedData,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """One ``fit`` per seed (its own split, option orders and nulls); the artefact is the first seed's,
    the log carries the mean effect over seeds with its t-interval (PAS section 4)."""
    outcomes = [fit(replace(experiment, seed=s), opened, data, store=store, watch=watch) for s in seeds]
    first = outcomes[0]
    if len(outcomes) == 1:
        return first
    results = tuple(_seed_result(seed, outcome.log) for seed, outcome in zip(seeds, outcomes, strict=True))
    mean, interval, p_value = t_interval([result.effect for result in results])
    log = replace(
        first.log,
        seeds=SeedSummary(mean, interval, p_value, results),
        seconds=sum(outcome.log.seconds for outcome in outcomes),
    )
    assert first.artefact.card is not None  # a fit always writes one
    card = replace(first.artefact.card, report=log.to_json())
    return replace(first, artefact=replace(first.artefact, card=card), log=log)


def run_key(
    experiment: Experiment, seeds: Sequence[int], opened: OpenModel, data: LoadedData, *, any_method: bool = False
) -> str:
    """Names a run for its store: same key, same numbers (for ``any_method``: of the same method)."""
    options = asdict(experiment) | ({"method": None} if any_method else {})
    facts: list[Any] = [options, list(seeds), opened.fingerprint, opened.template_hash, data.digest]
    if experiment.sae is not None:  # other files may have taken the place of those an interrupted run read
        facts.append(experiment.sae.opened().fingerprint)
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def diagnostics(bench: Bench) -> tuple[Finding, ...]:
    """Of all items together, with the option orders they are really shown in."""
    items = (*bench.train.items, *bench.validation.items, *bench.test.items)
    return diagnose([item.example for item in items], bench.split, orders=shown_orders(items))


def _trial_of(artefact: Artefact) -> GateTrial | None:
    """What the card tells of the gate's fit."""
    report = artefact.card.report if artefact.card is not None else {}
    figures = EvaluationLog.from_json(dict(report)).gate if report else None
    return None if figures is None else figures.trial


def _tested(
    bench: Bench, chosen: Chosen, controls: tuple[Control, ...], trial: GateTrial | None = None
) -> EvaluationLog:
    gate = chosen.gate
    meter = make_meter(bench)
    answers, drifts = ask(bench, chosen, controls), measure_drift(bench, chosen, meter)
    return EvaluationLog(
        data_name=bench.data.name,
        model_id=bench.opened.id,
        method=chosen.vector.provenance.method,
        hook_point=named(chosen.points),
        strength=chosen.strength,
        dose=chosen.dose(chosen.strength),
        scope=str(chosen.scope),
        n_train=len(bench.train.items),
        n_validation=len(bench.validation.items),
        n_test=len(bench.test.items),
        conditions=run_conditions(bench, chosen, answers, controls),
        cells=(),
        cells_compared=0,
        curve=dose_curve(bench, chosen, answers, drifts),
        side_effects=measure_side_effects(bench, chosen, meter, drifts[1.0]),
        diagnostics=diagnostics(bench),
        generations=example_texts(bench, chosen),
        provenance=chosen.vector.provenance.to_json(),
        constraints=bench.experiment.constraints,
        gate=None if gate is None else gate_figures(gate, opens(bench.opened, gate, bench.test), trial),
        seconds=0.0,
        power=foreseen(len(bench.test.items)),
    )


def _artefact(chosen: Chosen, log: EvaluationLog) -> Artefact:
    card = Card(log.hook_point, log.strength, log.dose, log.scope, chosen.vector.operator, log.to_json())
    return Artefact(chosen.vector, card, chosen.scope, chosen.gate)


def _notes(bench: Bench) -> tuple[str, ...]:
    notes = [f"every question is {bench.base}, also unsteered"] if bench.writer.shots else []
    if bench.experiment.base_lora:
        notes.append(f"unsteered is {bench.base}; the vector belongs to that model and is of no use without it")
    asked = bench.experiment.base_shots
    if len(bench.writer.shots) < asked:
        notes.append(f"{len(bench.writer.shots)} exemplars instead of {asked}: no more are wrong, or fit the context")
    if bench.split.dropped:
        notes.append(f"{bench.split.dropped} items dropped: near-duplicates of items in a more protected share")
    if bench.data.skipped:
        notes += [f"not used: {reason}" for reason in bench.data.skipped[:5]]
    if len(bench.data.skipped) > 5:
        notes.append(f"not used: {len(bench.data.skipped) - 5} rows more")
    fault = branch_fault(bench.opened)
    if fault is not None:
        notes.append(f"this model cannot run branches ({fault}); every cell took its own pass")
    longest = max(len(w.prompt) for w in bench.test.written)
    if bench.opened.context is not None and longest > bench.opened.context:
        notes.append(f"the longest prompt has {longest} tokens, the model's context is {bench.opened.context}")
    return tuple(notes)


def _seed_result(seed: int, log: EvaluationLog) -> SeedResult:
    unsteered, steered = log.condition("unsteered").rate.value, log.condition("steered").rate.value
    return SeedResult(seed, log.method, log.hook_point, log.strength, unsteered, steered, log.effect.value)
