"""Measure what steering does to a real model: every behaviour by every method that applies.

    python tools/real_models/measure.py OUT --model smollm2=FOLDER [--minutes 60] [--behaviours pirate] [--methods caa]

OUT gets one file for each model, behaviour and method; what lies there is not measured again, so that an interrupted
run goes on. Methods are taken in turn, ``caa`` on all behaviours first. A model is a name and what ``--model`` of
tillerman takes. ``python tools/real_models/page.py --add OUT`` takes the files into the repository.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from behaviours import BEHAVIOURS, LIMITS, METHODS, Behaviour, experiment
from measured import Measured, Refusals, path_of, write

import tillerman
from tillerman.core.errors import TillermanError
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData
from tillerman.logs.study import Trial
from tillerman.models.opened import OpenModel
from tillerman.models.sae.files import open_sae
from tillerman.pipeline.compare import size_of
from tillerman.pipeline.flow import Outcome, fit, run_key
from tillerman.studies import SafetyOptions, Subject, run as run_study
from tillerman.studies.safety.options import NULL, PROMPT, SAFE, STEERED, UNSAFE, UNSTEERED
from tillerman.studies.trials import has, pick, values

ASKED = {"text_tokens": 24, "draws": 2, "fit_prompts": 20}  # of the study of safety, beside the number of prompts


@dataclass(frozen=True)
class Settings:
    """``sae``: an autoencoder for ``sta``. ``prompts``: of each side of the study of safety; 0 asks none."""

    out: Path
    sae: str | None = None
    prompts: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    parser.add_argument("--behaviours", default=",".join(BEHAVIOURS))
    parser.add_argument("--methods", help="all that apply if none is named; sta where there is --sae")
    parser.add_argument("--sae", help="autoencoder of the model, for sta: what sae.py made")
    parser.add_argument(
        "--safety", type=int, default=0, metavar="N", help="ask N unsafe and N safe prompts, too: what refusals do"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    opened = tillerman.open_model(source, dtype=getattr(torch, given.dtype))
    given.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * (given.minutes or float("inf"))
    methods = given.methods.split(",") if given.methods else [one for one in METHODS if one != "sta" or given.sae]
    for behaviour, method in _asked(given.behaviours.split(","), methods):
        if time.monotonic() > ends:
            sys.exit("the time is over; the same command goes on from here")
        if path_of(given.out, (name, behaviour.name, method)).exists():
            continue
        one = measure(name, opened, behaviour, method, Settings(given.out, given.sae, given.safety))
        write(given.out, one)
        print(f"{behaviour.name}, {method}: {one.cpu_seconds:.0f} CPU s{one.refused and ', refused'}", flush=True)


def _asked(behaviours: list[str], methods: list[str]) -> Iterator[tuple[Behaviour, str]]:
    """By kind, and of a kind by method: what decides most first."""
    kinds = dict.fromkeys(BEHAVIOURS[name].kind for name in behaviours)
    for kind in kinds:
        for method in methods:
            yield from ((BEHAVIOURS[name], method) for name in behaviours if BEHAVIOURS[name].kind == kind)


def measure(name: str, opened: OpenModel, behaviour: Behaviour, method: str, settings: Settings) -> Measured:
    """What the unsteered, the prompted and the few-shot model answers is kept in OUT for the other methods."""
    data = tillerman.load_examples(behaviour.data, limit=LIMITS[behaviour.kind])
    spec = method if settings.sae is None or method != "sta" else f"sta:sae={settings.sae}"
    asked = experiment(behaviour, spec, name, len(opened.parts.blocks))
    if spec != method:  # it steers where its autoencoder reads
        asked = replace(asked, layers=tuple(sorted({*(asked.layers or ()), open_sae(str(settings.sae)).point.layer})))
    kept = settings.out / "kept"
    kept.mkdir(exist_ok=True)
    store = Store(kept / f"{name}.{behaviour.name}", run_key(asked, (0,), opened, data, any_method=True))
    began = time.process_time()
    try:
        outcome = fit(asked, opened, data, store=store)
    except TillermanError as error:
        return Measured(name, behaviour.name, method, time.process_time() - began, None, str(error))
    finally:
        store.close(finished=False)
    found = Measured(name, behaviour.name, method, time.process_time() - began, outcome.log)
    return with_safety(replace(found, size=size_of(outcome.artefact)), outcome, opened, data, settings)


def with_safety(found: Measured, outcome: Outcome, opened: OpenModel, data: LoadedData, settings: Settings) -> Measured:
    """Seconds stay those of the fit. A steering of strength 0 changes nothing, and is not asked."""
    if not settings.prompts or not outcome.log.strength:
        return found
    options = SafetyOptions(limit=settings.prompts, **ASKED)
    trials = run_study("safety", Subject(outcome.artefact, opened, data), options).trials
    return replace(found, unsafe=refusals(trials, UNSAFE), safe=refusals(trials, SAFE))


def refusals(trials: Sequence[Trial], side: str) -> Refusals:
    def share(condition: str) -> float:
        return float((values(pick(trials, side, condition)) > 0.5).mean())

    draws = [trial.condition for trial in trials if trial.case == side and trial.condition.startswith(NULL)]
    return Refusals(
        prompts=len(pick(trials, side, UNSTEERED).items),
        unsteered=share(UNSTEERED),
        steered=share(STEERED),
        random=float(np.mean([share(draw) for draw in draws])),
        prompt=share(PROMPT) if has(trials, side, PROMPT) else None,
    )


if __name__ == "__main__":
    main()
