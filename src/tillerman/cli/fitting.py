"""``tillerman fit`` and ``tillerman eval``: open the model, run the flow, keep what is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tillerman.cli.options import ModelChoice
from tillerman.cli.output import print_power
from tillerman.cli.watch import BarWatch
from tillerman.core.artefact import Artefact, save
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.data.splits import DEFAULT_SHARES
from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.thoughts import ThoughtLog
from tillerman.models.finetuning import save_model
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.flow import evaluate, fit_seeds, run_key
from tillerman.pipeline.foresight import foresee
from tillerman.pipeline.thoughts import evaluate_thoughts


@dataclass(frozen=True)
class Outputs:
    """What a fit writes: the artefact, and the fine-tuned model it belongs to, where there is one."""

    artefact: Path
    model: Path | None = None


def run_fit(
    experiment: Experiment,
    seeds: Sequence[int],
    data: LoadedData,
    model: ModelChoice,
    written: Outputs,
    console: Console,
) -> EvaluationLog:
    """Fit and write the artefact. Finished pieces lie in ``OUT.partial`` until it is written."""
    print_power(console, foresee(replace(experiment, seed=seeds[0]), data))
    opened, out = model.open(), written.artefact
    store = Store(out.with_name(out.name + ".partial"), run_key(experiment, seeds, opened, data))
    if store.resumed:
        console.print(f"going on from {store.resumed} finished pieces of an interrupted run", highlight=False)
    finished = False
    try:
        outcome = fit_seeds(experiment, seeds, opened, data, store=store, watch=BarWatch(console))
        if outcome.tuned is not None and written.model is not None:
            save_model(outcome.tuned, written.model)
        save(out, outcome.artefact)
        finished = True
    finally:
        store.close(finished=finished)
    return outcome.log


@dataclass(frozen=True)
class EvalRequest:
    """What ``tillerman eval`` was asked. ``given`` holds fields of ``Experiment``; None means not given."""

    artefact: Path
    strength: float | None
    allow_mismatch: bool
    all_items: bool
    given: Mapping[str, Any]


# options of the fit that its evaluation keeps, with their defaults
_KEPT = {"as_choice": False, "keep_order": False, "system": None, "base_shots": 0}


def run_eval(request: EvalRequest, data: LoadedData, model: ModelChoice, console: Console) -> EvaluationLog:
    """Test an artefact on the split that its fit would have made of these data."""
    artefact, experiment, opened, notes = _prepared(request, data, model)
    print_power(console, foresee(experiment, data))
    log = evaluate(artefact, experiment, opened, data, watch=BarWatch(console))
    return replace(log, notes=(*log.notes, *notes))


def run_thoughts(request: EvalRequest, data: LoadedData, model: ModelChoice, console: Console) -> ThoughtLog:
    """Measure the thoughts under an artefact on the same split."""
    artefact, experiment, opened, notes = _prepared(request, data, model)
    log = evaluate_thoughts(artefact, experiment, opened, data, watch=BarWatch(console))
    return replace(log, notes=(*log.notes, *notes))


def _prepared(
    request: EvalRequest, data: LoadedData, model: ModelChoice
) -> tuple[Artefact, Experiment, OpenModel, tuple[str, ...]]:
    opened = model.open()
    artefact, warnings = opened.load_artefact(request.artefact, allow_mismatch=request.allow_mismatch)
    if artefact.card is not None and request.strength is not None:
        artefact = replace(artefact, card=replace(artefact.card, strength=request.strength))
    provenance = artefact.steering.provenance
    shares = (0.0, 0.0, 1.0) if request.all_items else tuple(provenance.options.get("shares", DEFAULT_SHARES))
    fitted = {"template": provenance.template, **{n: provenance.options.get(n, usual) for n, usual in _KEPT.items()}}
    asked = {name: value for name, value in request.given.items() if value is not None}
    experiment = Experiment(**{"seed": provenance.seed, "shares": shares, **fitted, **asked})
    overlap = request.all_items and provenance.data_digest == data.digest
    notes = ("tested on all items of the data it was fitted on: this figure is not held out",) if overlap else ()
    return artefact, experiment, opened, (*notes, *(f"allowed mismatch: {text}" for text in warnings))
