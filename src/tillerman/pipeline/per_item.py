"""What the test items say one by one: every answer, and whether steering moves answers or a leaning."""

from __future__ import annotations

from tillerman.core.artefact import Artefact
from tillerman.evaluation.answered import Answered, item_results
from tillerman.evaluation.bias import answer_classes, bias_of
from tillerman.evaluation.moved_wrong import item_slopes
from tillerman.logs.conditions import STEERED, UNSTEERED
from tillerman.logs.evidence import Bias, ItemResult
from tillerman.pipeline.held_out import Answers, Baseline
from tillerman.pipeline.run import Run


def every_item(run: Run, chosen: Artefact, answers: Answers, baselines: tuple[Baseline, ...]) -> tuple[ItemResult, ...]:
    """Question, options and all answers of each test item, and the slope of its log-odds over the doses."""
    classes = answer_classes(run.test.items)
    slopes = None if classes is None else item_slopes(classes, _curve(chosen, answers))
    return item_results(run.test.items, run.test.questions, _by_condition(answers, baselines), slopes)


def measure_bias(run: Run, chosen: Artefact, answers: Answers, baselines: tuple[Baseline, ...]) -> Bias | None:
    """Discrimination and criterion of every condition whose answers were scored; slopes from the dose curve."""
    return bias_of(run.test.items, _by_condition(answers, baselines), _curve(chosen, answers))


def _curve(chosen: Artefact, answers: Answers) -> dict[float, Answered]:
    """By dose; empty where nothing was steered."""
    if not chosen.cell.strength:
        return {}
    return {chosen.cell.scaled(factor).dose(chosen.steering): one for factor, one in answers.at.items()}


def _by_condition(answers: Answers, baselines: tuple[Baseline, ...]) -> dict[str, Answered]:
    first = {str(UNSTEERED): answers.at[0.0], str(STEERED): answers.at[1.0]}
    return first | {one.name: one.answered for one in baselines}
