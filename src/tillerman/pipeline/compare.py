"""Methods side by side: the same split, the same search, the same test items, one fit for each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.errors import FitError, HookPointError, ModelError, UsageError
from tillerman.core.hookpoint import parse_points
from tillerman.core.plan import Plan
from tillerman.core.spec import split_specs
from tillerman.core.store import Store
from tillerman.data.loading import LoadedData, Source, as_loaded
from tillerman.evaluation.side_effects import Drift, DriftMeter
from tillerman.evaluation.speed import time_ratio
from tillerman.logs.base import build
from tillerman.logs.comparison import AtBudget, Comparison, Cost, MethodLeftOut, MethodResult
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.methods.base import Method
from tillerman.methods.registry import spec_of
from tillerman.models.opened import OpenModel
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.flow import Outcome, fit, run_key
from tillerman.pipeline.run import Run, Unwatched, Watch
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter
from tillerman.reports.comparison import adjusted
from tillerman.selection.matching import match_cost
from tillerman.statistics.estimates import effect, rate

# What data or model cannot feed; any other error is the caller's, and stops the comparison.
_UNFIT = (FitError, HookPointError, ModelError)
_TIMED_TOKENS = 32


@dataclass(frozen=True)
class Lineup:
    """What is compared: methods, a row each, by name or as values, under one experiment. A list in a text is as many
    rows; a group such as ``pas`` is one.

    ``experiment.method`` plays no part. With ``equal_kl`` (nats per token) each chosen cell is also tested at the
    strength whose KL on neutral text is that budget.

    ``UsageError`` for no method, or a budget that is not above 0.
    """

    methods: tuple[str | Method, ...]
    experiment: Experiment = Experiment()  # noqa: RUF009 (a frozen value)
    equal_kl: float | None = None

    def __post_init__(self) -> None:
        parts = [p for m in self.methods for p in (split_specs(m) if isinstance(m, str) else [m])]
        names = tuple(dict.fromkeys(spec_of(part) if isinstance(part, str) else part for part in parts if part))
        if not names:
            raise UsageError("nothing to compare: give at least one method, e.g. caa,ipas-wrong")
        if self.experiment.gate is not None:
            raise UsageError("a comparison takes no gate; fit a method with a gate by itself")
        if self.experiment.nested is not None:
            raise UsageError("a comparison reports test items only; fit one method with nested folds by itself")
        if self.equal_kl is not None and not 0 < self.equal_kl < float("inf"):
            raise UsageError(f"`equal_kl` {self.equal_kl:g}: expected more than 0 nats per token")
        object.__setattr__(self, "methods", names)
        asked = self.experiment.written_prompts if self.experiment.objective == "written" else 0
        changed = replace(self.experiment, method=names, generations=(), written_prompts=asked)
        object.__setattr__(self, "experiment", changed)

    @property
    def experiments(self) -> dict[str, Experiment]:
        """What each row is fitted by, under its name: all the same but for the method."""
        return {spec_of(one): replace(self.experiment, method=one) for one in self.methods}


def compare(
    lineup: Lineup,
    opened: OpenModel,
    data: LoadedData | Source,
    *,
    store: Store | None = None,
    watch: Watch | None = None,
) -> Comparison:
    """Several methods on the same items: what each does, what it costs, and whether its nulls have the same effect.

    Numbers are those that ``fit`` gives for each method alone. Test items play no part in choosing a cell or in
    setting a strength to the budget. A method that data or model cannot feed is left out with its reason.
    ``store`` keeps finished methods over interruptions.

    ``FitError`` where no method is left.
    """
    started, data = time.monotonic(), as_loaded(data)
    kept, eyes = store or Store(None, ""), watch or Unwatched()
    run = set_up(lineup.experiment, opened, data, kept, eyes)
    meter, each = make_meter(run), lineup.experiments

    def row_of(name: str) -> dict[str, Any]:
        try:
            outcome = fit(each[name], opened, data, store=kept, watch=eyes)
        except _UNFIT as error:
            return {"reason": str(error)}
        result = _result(replace(run, experiment=each[name]), meter, outcome, lineup.equal_kl)
        return {"result": asdict(result), "baselines": [asdict(one) for one in _baselines(outcome.log)]}

    budget, here = lineup.equal_kl, kept.scoped(opened.identity, data.digest, lineup.equal_kl)
    rows = {
        name: here.scoped(one.to_json(), one.sources).value("row", partial(row_of, name)) for name, one in each.items()
    }
    done = [row for row in rows.values() if "result" in row]
    left_out = tuple(MethodLeftOut(name, row["reason"]) for name, row in rows.items() if "reason" in row)
    if not done:
        raise FitError("no method can be fitted: " + "; ".join(f"{one.method}: {one.reason}" for one in left_out))
    return Comparison(
        data_name=data.name,
        model_id=opened.id,
        seed=lineup.experiment.seed,
        n_train=len(run.train.items),
        n_validation=len(run.validation.items),
        n_test=len(run.test.items),
        test_digest=digest_of_test(run),
        baselines=tuple(build(Condition, one) for one in done[0]["baselines"]),
        methods=adjusted([build(MethodResult, row["result"]) for row in done]),
        left_out=left_out,
        equal_kl=budget,
        provenance=run.provenance(lineup.experiment.spec).to_json(),
        seconds=time.monotonic() - started,
    )


def digest_of_test(run: Run) -> str:
    """Of the test items and their order; the same for all that were tested on the same items."""
    ids = "\n".join(item.example.id for item in run.test.items)
    return hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()


def compare_key(lineup: Lineup, opened: OpenModel, data: LoadedData) -> str:
    """Names a comparison for its store. Methods and budget are not part of it: when an interrupted run is asked
    for more of them, what is finished stays."""
    return f"comparison {run_key(lineup.experiment, (lineup.experiment.seed,), opened, data, any_method=True)}"


def _result(run: Run, meter: DriftMeter, outcome: Outcome, budget: float | None) -> MethodResult:
    log = outcome.log
    return MethodResult(
        method=run.experiment.spec,
        fitted=log.method,
        hook_point=log.hook_point,
        strength=log.strength,
        dose=log.dose,
        scope=log.scope,
        cells_compared=log.cells_compared,
        rate=log.condition("steered").rate,
        effect=log.effect,
        p_holm=log.effect.p_value,
        nulls=tuple(c for c in log.conditions if c.name.startswith("null:")),
        side_effects=log.side_effects,
        cost=_cost(run, outcome),
        at_budget=None if budget is None else _at_budget(run, meter, outcome, budget),
        moved_wrong=None if log.bias is None else log.bias.moved_wrong,
        wrong_interval=None if log.bias is None else log.bias.wrong_interval,
        slope=None if log.bias is None else log.bias.slope,
        slope_interval=None if log.bias is None else log.bias.slope_interval,
    )


def _baselines(log: EvaluationLog) -> tuple[Condition, ...]:
    """Without how far steering leads: that is another figure for every method."""
    return tuple(replace(c, lead=None) for c in log.conditions if c.name in ("unsteered", "prompt", "icl", "lora"))


def _cost(run: Run, outcome: Outcome) -> Cost:
    plan = outcome.artefact.plan() if outcome.log.strength else ()
    prompt = run.test.written[0].prompt
    if run.opened.context is not None:
        prompt = prompt[-(run.opened.context - _TIMED_TOKENS) :]
    with run.watch.stage(f"time per token, {run.experiment.spec}", 0):
        ratio, interval = time_ratio(run.opened, prompt, plan, _TIMED_TOKENS)
    seconds = outcome.log.seconds_to_choose
    assert seconds is not None  # a fit always says so
    return Cost(seconds, size_of(outcome.artefact), ratio, interval)


def size_of(artefact: Artefact) -> int:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "steering.safetensors"
        save(path, replace(artefact, card=None))
        return path.stat().st_size


def _at_budget(run: Run, meter: DriftMeter, outcome: Outcome, budget: float) -> AtBudget:
    """The chosen cell at the strength that costs the budget, on the test items."""
    steering, cell = outcome.artefact.steering, _steering_cell(outcome)
    drifts: dict[float, Drift] = {}

    def plan(strength: float) -> Plan:
        return cell.at(strength).plan(steering)

    def kl(strengths: Sequence[float]) -> list[float]:
        with run.watch.stage(f"equal KL, {run.experiment.spec}", len(strengths) * meter.passes) as progress:
            drifts.update(zip(strengths, meter.measure_all(list(map(plan, strengths)), progress), strict=True))
        return [drifts[strength].kl for strength in strengths]

    found = match_cost(budget, cell.strength, kl)
    groups = run.test.groups
    with run.watch.stage(f"test at equal KL, {run.experiment.spec}", 2 * len(run.test.items)) as progress:
        before, after = run.test.correct_under([(), plan(found.strength)], run.store, progress)
    change = effect(after, before, groups)
    return AtBudget(
        reached=found.reached,
        strength=found.strength,
        dose=cell.at(found.strength).dose(steering),
        kl=found.cost,
        perplexity_ratio=drifts[found.strength].perplexity_ratio,
        rate=rate(after, groups),
        effect=change,
        p_holm=change.p_value,
    )


def _steering_cell(outcome: Outcome) -> Cell:
    """The chosen cell; where the search abstained, the best on validation items of those that steer by the artefact's
    vector: read as it is, and at one layer or at several as it is."""
    log, cell = outcome.log, outcome.artefact.cell
    if cell.strength:
        return cell
    read = "" if log.chosen is None else log.chosen.read
    mine = [
        one
        for one in log.cells
        if one.strength
        and (one.method, one.read) == (log.method, read)
        and len(parse_points(one.hook_point)) == len(cell.points)
    ]
    best = max(mine, key=lambda one: (one.score, -abs(one.dose)))
    return replace(cell, points=parse_points(best.hook_point), strength=best.strength)
