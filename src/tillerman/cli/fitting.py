"""``tillerman fit`` and ``tillerman eval``: open the model, run the flow, keep what is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tillerman.cli.watch import BarWatch
from tillerman.core.artefact import load, save
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.evaluation.log import EvaluationLog
from tillerman.models.opened import open_model
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.flow import evaluate, fit_seeds, run_key


def run_fit(
    experiment: Experiment,
    seeds: Sequence[int],
    data: LoadedData,
    model: tuple[str, str],
    out: Path,
    console: Console,
) -> EvaluationLog:
    """Fit and write the artefact. Finished pieces lie in ``OUT.partial`` until it is written."""
    opened = open_model(model[0], device=model[1])
    store = Store(out.with_name(out.name + ".partial"), run_key(experiment, seeds, opened, data))
    if store.resumed:
        console.print(f"going on from {store.resumed} finished pieces of an interrupted run", highlight=False)
    finished = False
    try:
        outcome = fit_seeds(experiment, seeds, opened, data, store=store, watch=BarWatch(console))
        save(out, outcome.artefact)
        finished = True
    finally:
        store.close(finished=finished)
    return outcome.log


def run_eval(
    request: tuple[Path, float | None, bool, bool],
    experiment: Experiment,
    data: LoadedData,
    model: tuple[str, str],
    console: Console,
) -> EvaluationLog:
    """``request`` is artefact file, strength or None, allow mismatch, all items."""
    path, strength, allow_mismatch, all_items = request
    artefact = load(path)
    opened = open_model(model[0], device=model[1])
    provenance = artefact.steering.provenance
    warnings = opened.check_provenance(provenance, allow_mismatch=allow_mismatch)
    if artefact.card is not None and strength is not None:
        artefact = replace(artefact, card=replace(artefact.card, strength=strength))
    shares = (0.0, 0.0, 1.0) if all_items else experiment.shares
    settled = replace(experiment, shares=shares, seed=provenance.seed)
    log = evaluate(artefact, settled, opened, data, watch=BarWatch(console))
    overlap = all_items and provenance.data_digest == data.digest
    notes = ("tested on all items of the data it was fitted on: this figure is not held out",) if overlap else ()
    return replace(log, notes=(*log.notes, *notes, *(f"allowed mismatch: {text}" for text in warnings)))
