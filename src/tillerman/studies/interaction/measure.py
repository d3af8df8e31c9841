"""Every behaviour's test items under each vector alone, all together, and in random company."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tillerman.core.artefact import Artefact
from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan, joined
from tillerman.data.loading import LoadedData
from tillerman.logs.study import Trial
from tillerman.pipeline.side_effects import make_meter
from tillerman.steering.lookahead import ensure_in_order
from tillerman.studies.base import Lab, Subject, cost_trials, set_up_lab
from tillerman.studies.interaction.options import COMPANY, PROMPT, TOGETHER, InteractionOptions, acting_alone, left_out


def measure(lab: Lab, options: InteractionOptions) -> Iterator[Trial]:
    """Every behaviour's test items under each vector alone, all together and, of more than two, all but one; with
    random company; and asked for all behaviours in words."""
    labs = _labs(lab)
    plans = _plans({name: one.plan() for name, one in labs.items()})
    told = _told(labs)
    for name, one in labs.items():
        nulls = {f"null:random {k + 1}": plan for k, plan in enumerate(one.random_plans(options.draws))}
        mine = {**plans, **nulls, **_companies(labs, name, options.draws)}
        asks = bool(told) and one.run.kind != "text"  # a text has no question that a prompt could precede
        with lab.stage(name, (len(mine) + asks) * len(one.exam.items)) as progress:
            yield from one.scored(name, one.exam, mine, progress)
            if asks:
                exam = one.exam_of(one.exam.items, one.run.writer.with_system(told))
                yield from one.scored(name, exam, {PROMPT: ()}, progress)
    yield from _neutral(lab, {name: plan for name, plan in plans.items() if plan})


def _told(labs: Mapping[str, Lab]) -> str:
    """The prompts of all behaviours, one after the other. Empty where one that could be asked for has none: the rest
    would not ask for all."""
    said = [one.run.told for one in labs.values() if one.run.kind != "text"]
    return "\n".join(dict.fromkeys(said)) if all(said) else ""


def _labs(lab: Lab) -> dict[str, Lab]:
    """A run for each vector, by name: that of its data, with its method where two share it."""
    subject = lab.subject
    if not subject.others:
        raise UsageError("interaction: one vector has no company; give two or more, each with its data")
    pairs = [(subject.artefact, subject.data), *subject.others]
    labs = [lab, *(_beside(lab, artefact, data) for artefact, data in subject.others)]
    shared = Counter(data.name for _, data in pairs)
    full = [d.name if shared[d.name] == 1 else f"{d.name}, {a.steering.provenance.method}" for a, d in pairs]
    names = [name if full.count(name) == 1 else f"{name} {k + 1}" for k, name in enumerate(full)]
    return dict(zip(names, labs, strict=True))


def _beside(lab: Lab, artefact: Artefact, data: LoadedData) -> Lab:
    return set_up_lab(Subject(artefact, lab.opened, data), lab.options, lab.store, lab.run.watch)


def _plans(own: Mapping[str, Plan]) -> dict[str, Plan]:
    plans: dict[str, Plan] = {"unsteered": ()}
    plans |= {acting_alone(name): plan for name, plan in own.items()}
    plans[TOGETHER] = _joined(own)
    if len(own) > 2:
        plans |= {left_out(name): _joined({n: p for n, p in own.items() if n != name}) for name in own}
    return plans


def _joined(plans: Mapping[str, Plan]) -> Plan:
    plan = joined(plans.values())
    try:
        ensure_in_order(plan)
    except UsageError as error:
        raise UsageError(f"{' and '.join(plans)} cannot act together: {error}") from None
    return plan


def _companies(labs: Mapping[str, Lab], name: str, draws: int) -> dict[str, Plan]:
    """The vector itself among random directions of the others' norms; no two of them drawn alike."""
    drawn = {other: one.random_plans(draws * (k + 2))[-draws:] for k, (other, one) in enumerate(labs.items())}
    return {
        f"{COMPANY} {k + 1}": _joined({n: one.plan() if n == name else drawn[n][k] for n, one in labs.items()})
        for k in range(draws)
    }


def _neutral(lab: Lab, plans: Mapping[str, Plan]) -> Iterator[Trial]:
    def measured() -> Iterator[Trial]:
        meter = make_meter(lab.run)
        with lab.stage("neutral text", len(plans) * meter.passes) as progress:
            found = meter.windows(list(plans.values()), progress)
        for name, one in zip(plans, found, strict=True):
            yield from (replace(trial, case=trial.condition, condition=name) for trial in cost_trials(name, one))

    yield from lab.kept("neutral text", measured)
