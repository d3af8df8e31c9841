"""Step ``slopes``: how each item answers to a vector, in its own surroundings and under other prompts.

Tan et al., "Analysing the Generalisation and Reliability of Steering Vectors", arXiv 2407.12404: an item's steerability
is the slope of a line through its log-odds for the wanted answer against the strength, a data set's the mean of these;
anti-steerable is an item whose slope is below 0. Braun et al., "Understanding (Un)Reliability of Steering Vectors in
Language Models", arXiv 2505.22637: what the training pairs foretell of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.store import Store
from tillerman.data import pairings
from tillerman.data.presenting import Item
from tillerman.data.rephrasings import after_instruction
from tillerman.evaluation.bias import answer_classes
from tillerman.evaluation.exam import Exam
from tillerman.logs.reproduction import Measured, Piece
from tillerman.models.capture import capture
from tillerman.pipeline.run import Run
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.vectors import read_as
from tillerman.recipes.steps.cells import Swept, cells_of, fitted_vector
from tillerman.recipes.steps.work import Work, of_interval, of_rate, of_value
from tillerman.statistics import detection, variance
from tillerman.statistics.estimates import bootstrap_mean, rate
from tillerman.statistics.pair_differences import along_own_mean

Slopes = NDArray[np.float64]  # [n], nats per unit of strength
_SHIFTS = {"prompted": "prompt", "opposed": "opposite"}  # figure's name -> what of the task stands before a question


def run_slopes(work: Work, shared: Store) -> list[Piece]:
    """One piece. Of random draws an item's slope is the mean over draws, and they are not asked under other prompts."""
    run = set_up(work.experiment, work.opened, work.data(), shared, work.watch, needed=("train", "test"))
    swept = cells_of(work, run, fitted_vector(run))
    here = _slopes(run, run.test, swept, "as fitted")
    figures = _figures(here, "")
    if not work.arm.draws:
        figures |= {"dose": of_value(next(one.dose / one.cell.strength for one in swept if one.cell.strength))}
        figures |= _spurious(run.test.items, here) | _pairs(run, swept) | _elsewhere(work, run, swept)
    return [work.piece(figures, cell=f"{swept[0].cell.points[0]}")]


def _slopes(run: Run, exam: Exam, swept: Sequence[Swept], name: str) -> Slopes:
    classes = answer_classes(exam.items)
    if classes is None or len(exam.items) < 2:
        raise FitError(
            f"{run.data.name}: slopes are of two items or more with answers in common: letters, or yes and no"
        )
    plans = [plan for one in swept for plan in one.plans]
    with run.watch.stage(f"slopes, {name}", len(plans) * len(exam.items)) as progress:
        scores = iter(exam.scores_under(plans, Store(None, ""), progress))
    rows = [
        np.mean([detection.odds(classes.logs(next(scores)), classes.right) for _ in one.plans], axis=0) for one in swept
    ]
    return detection.slopes(np.array([one.cell.strength for one in swept]), np.array(rows))


def _figures(slopes: Slopes, of: str) -> dict[str, Measured]:
    anti = slopes < 0
    return {
        f"slope{of}": of_interval(float(slopes.mean()), bootstrap_mean(slopes), len(slopes)),
        f"anti{of}": of_rate(rate(anti, [""] * len(anti))),
    }


def _spurious(items: Sequence[Item], slopes: Slopes) -> dict[str, Measured]:
    """What the right letter explains, where answers are letters, and what the right word does beside it: a set whose
    wanted answers are all Yes has no such factor."""
    word = np.array([item.example.answer == 0 for item in items])
    if any(item.example.kind != "choice" for item in items):
        factors, alone, found = [word], 0.0, {}
    else:
        letter = np.array([item.right == 0 for item in items])
        factors, alone = [letter, word], variance.explained(slopes, letter)
        found = {"spurious_letter": of_interval(alone, variance.explained_interval(slopes, letter), len(slopes))}
    share, ends = variance.explained(slopes, *factors), variance.explained_interval(slopes, *factors)
    chance = variance.by_chance(*factors)
    return found | {
        "spurious_word": of_value(share - alone, len(slopes)),
        "spurious_beyond": Measured(share - chance, ends.low - chance, ends.high - chance, len(slopes)),
    }


def _pairs(run: Run, swept: Sequence[Swept]) -> dict[str, Measured]:
    """Of the pairs that the vector is made of, where it is added."""
    items, read = run.train.items, run.readings[0]
    pairs = read_as(pairings.caa(items, run.reading(read).contrast_writer), read)
    source = HookPoint(swept[0].cell.points[0].layer, run.experiment.read_site or run.experiment.site)
    with run.watch.stage("pairs", 2 * len(items)) as progress:
        got = capture(run.opened, [*pairs.positive, *pairs.negative], [source], read="mean", progress=progress)
    sides = got[source].to(torch.float64)
    cosine, distance = along_own_mean((sides @ sides.T).numpy())
    return {"cosine": of_value(cosine, len(items)), "d_prime": of_value(distance, len(items))}


def _elsewhere(work: Work, run: Run, swept: Sequence[Swept]) -> dict[str, Measured]:
    """The same items with the task's prompt, and its opposite, before the question: the vector is that of before."""
    found: dict[str, Slopes] = {}
    for name, field in _SHIFTS.items():
        instruction = getattr(work.source.task, field)
        if instruction:
            asked = after_instruction(run.test.items, instruction)
            exam = Exam.of(run.opened, asked, run.writer, run.experiment.answer_tokens)
            found[name] = _slopes(run, exam, swept, name)
    figures = {
        name: f for of, s in found.items() for name, f in _figures(s, f"_{of}").items() if name.startswith("slope")
    }
    if len(found) == len(_SHIFTS):
        mean = np.mean(list(found.values()), axis=0)
        anti = [rate(s < 0, [""] * len(s)).value for s in found.values()]
        figures["slope_shifted"] = of_interval(float(mean.mean()), bootstrap_mean(mean), len(mean))
        figures["anti_shifted"] = of_value(float(np.mean(anti)), len(mean))
    return figures
