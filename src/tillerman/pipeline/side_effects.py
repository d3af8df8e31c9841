"""What steering changes beside the behaviour: neutral text at the chosen dose and along its curve, and a task that the
vector is not about."""

from __future__ import annotations

from collections.abc import Mapping

from tillerman.core.artefact import Artefact
from tillerman.data.duplicates import clean_split
from tillerman.data.loading import load_examples
from tillerman.data.neutral import load_texts
from tillerman.data.presenting import present
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.limits import fitting
from tillerman.evaluation.side_effects import Drift, DriftMeter, drift_over, neutral_text
from tillerman.logs.evaluation import DosePoint, SideEffects
from tillerman.pipeline.costs import Costs
from tillerman.pipeline.held_out import CURVE, Answers, through, ungated
from tillerman.pipeline.run import Run
from tillerman.statistics.equivalence import MARGIN, equivalence_of_answers
from tillerman.statistics.estimates import effect, rate
from tillerman.statistics.values import Interval


def make_meter(run: Run) -> DriftMeter:
    e = run.experiment
    return DriftMeter(run.opened, neutral_text(run.opened, e.neutral, load_texts(e.neutral), e.neutral_tokens))


def measure_drift(run: Run, chosen: Artefact, meter: DriftMeter) -> dict[float, Drift]:
    """Drift on neutral text at every factor of the dose curve: as chosen on all of it, else on a part. No steering
    is known to change nothing."""
    costs = Costs(run, meter, "side effects")
    as_chosen = drift_over([costs.first(ungated(chosen), costs.batches)])
    nothing = Drift(as_chosen.perplexity, 1.0, Interval(1.0, 1.0), 0.0)
    if not chosen.cell.strength or run.experiment.fast:
        return {0.0: nothing, 1.0: as_chosen}
    factors = [factor for factor in CURVE if factor not in (0.0, 1.0)]
    plans = [ungated(chosen, factor) for factor in factors]
    part = [drift_over([one]) for one in costs.together(plans, meter.of_curve)]
    meter.forget_passes()  # a run asks the text no more
    return {0.0: nothing, 1.0: as_chosen, **dict(zip(factors, part, strict=True))}


def curve_note(chosen: Artefact, meter: DriftMeter) -> tuple[str, ...]:
    """Where the dose curve's side effects were measured on a part of the text."""
    part, whole = meter.tokens_in(meter.of_curve), meter.text.tokens
    if part == whole or not chosen.cell.strength:
        return ()
    return (
        f"side effects along the dose curve are measured on {part:,} of the {whole:,} tokens of neutral text, at the "
        "chosen dose on all of them",
    )


def unrelated_exam(run: Run) -> tuple[Exam, str]:
    """A task that the vector is not about, and its name."""
    e = run.experiment
    loaded = load_examples(e.unrelated)
    share = clean_split(loaded.examples, shares=(0.0, 0.0, 1.0), sizes=(None, None, e.unrelated_items)).test
    return fitting(Exam.of(run.opened, present(share), run.bare_writer.calibrated({}))), loaded.name


def measure_side_effects(run: Run, chosen: Artefact, meter: DriftMeter, drift: Drift) -> SideEffects:
    """Perplexity and KL on neutral text, and accuracy on a task the vector is not about."""
    exam, task = unrelated_exam(run)
    with run.watch.stage(f"unrelated task, {task}", 2 * len(exam.items)) as progress:
        plans = [(), ungated(chosen)]
        plain, free = exam.answered_under(plans, run.store, progress)
    before, after = plain.right, through(chosen.gate, exam, free, plain).right
    return SideEffects(
        text=meter.text.name,
        tokens=meter.text.tokens,
        perplexity_unsteered=drift.perplexity,
        perplexity_ratio=drift.perplexity_ratio,
        perplexity_ratio_interval=drift.perplexity_ratio_interval,
        kl=drift.kl,
        unrelated_task=task,
        unrelated_unsteered=rate(before, exam.groups),
        unrelated_steered=rate(after, exam.groups),
        unrelated_effect=effect(after, before, exam.groups),
        unrelated_equivalence=equivalence_of_answers(after, before, MARGIN),
    )


def dose_curve(run: Run, chosen: Artefact, answers: Answers, drifts: Mapping[float, Drift]) -> tuple[DosePoint, ...]:
    """The chosen vector at fractions and multiples of its strength, also reversed."""
    curve = []
    for factor in sorted(drifts) if chosen.cell.strength else (0.0,):
        cell, drift = chosen.cell.scaled(factor), drifts[factor]
        right = rate(answers.at[factor].right, run.test.groups)
        curve.append(DosePoint(cell.strength, cell.dose(chosen.steering), right, drift.perplexity_ratio, drift.kl))
    return tuple(curve)
