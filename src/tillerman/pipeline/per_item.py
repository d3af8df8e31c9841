"""What the test items say one by one: every answer, and whether steering moves answers or a leaning."""

from __future__ import annotations

from tillerman.core.artefact import Artefact
from tillerman.evaluation.answered import Answered, item_results
from tillerman.evaluation.bias import bias_of
from tillerman.logs.conditions import STEERED, UNSTEERED
from tillerman.logs.evidence import Bias, ItemResult
from tillerman.pipeline.held_out import Answers, Baseline
from tillerman.pipeline.run import Run


def every_item(run: Run, answers: Answers, baselines: tuple[Baseline, ...]) -> tuple[ItemResult, ...]:
    """Question, options and all answers of each test item."""
    return item_results(run.test.items, run.test.questions, _by_condition(answers, baselines))


def measure_bias(run: Run, chosen: Artefact, answers: Answers, baselines: tuple[Baseline, ...]) -> Bias | None:
    """Discrimination and criterion of every condition whose answers were scored; slopes from the dose curve."""
    curve = {chosen.cell.scaled(factor).dose(chosen.steering): one for factor, one in answers.at.items()}
    return bias_of(run.test.items, _by_condition(answers, baselines), curve if chosen.cell.strength else None)


def _by_condition(answers: Answers, baselines: tuple[Baseline, ...]) -> dict[str, Answered]:
    first = {str(UNSTEERED): answers.at[0.0], str(STEERED): answers.at[1.0]}
    return first | {one.name: one.answered for one in baselines}
