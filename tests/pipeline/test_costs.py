"""What a search measures of steering's costs: little text where that tells, and nothing twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.store import Store
from tillerman.evaluation.side_effects import DriftMeter, NeutralText, Windows
from tillerman.models.checking import check
from tillerman.pipeline.costs import Budget, Costs, is_clear
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up
from tillerman.selection.choice import Candidate, Scored

from .. import tiny
from ..planted import SMALL, coins, speaker

LIMITS = {"kl": 0.1, "perplexity_ratio": 1.2}
POINT = HookPoint(1)


def seen(*kl, nats=0.0):
    zeros = torch.zeros(len(kl), dtype=torch.float64)
    return Windows(zeros, zeros + nats, torch.tensor(kl, dtype=torch.float64))


@pytest.mark.parametrize(
    ("windows", "clear"),
    [
        (seen(0.5), True),
        (seen(0.3), False),
        (seen(0.02), True),
        (seen(0.03), False),
        (seen(*[0.3] * 4), True),
        (seen(*[0.15] * 4), False),
        (seen(*[0.12, 0.13] * 4), True),
        (seen(*[0.02, 0.22] * 4), False),
        (seen(*[0.07, 0.08] * 4), True),
        (seen(*[0.07, 0.08] * 4, nats=math.log(1.2)), False),  # the other limit is near
        (seen(*[0.07, 0.08] * 4, nats=2 * math.log(1.2)), True),
        (seen(math.nan), True),
    ],
)
def test_a_cost_is_clear_where_no_more_text_could_carry_it_over_its_limit(windows, clear):
    assert is_clear(windows, LIMITS) is clear


def test_a_limit_of_no_cost_at_all_takes_the_whole_text():
    assert not is_clear(seen(5.0), {"kl": 0.0})
    assert not is_clear(seen(5.0), {"perplexity_ratio": 1.0})


@pytest.fixture
def counted():
    """A budget over one vector, and the blocks' passes that its questions take."""
    opened = speaker()
    check(opened.model, opened.parts, opened.id)  # learns what follows the head
    run = set_up(replace(SMALL, max_kl=0.1), opened, coins(1, 60), Store(None, ""), Unwatched())
    meter = DriftMeter(opened, NeutralText("t", torch.tensor(tiny.random_rows([12] * 32))))
    budget, ran = Budget(Costs(run, meter), {"caa": tiny.vector(POINT)}), []
    handle = opened.parts.blocks[2].register_forward_pre_hook(lambda _, a: ran.append(len(a[0])))
    yield budget, ran
    handle.remove()


def candidate(strength):
    return Candidate("caa", Cell((POINT,), strength, "add", Scope("last")), strength)


def test_a_cell_far_beyond_the_budget_is_left_at_the_first_window_and_never_asked_again(counted):
    budget, ran = counted
    assert not budget.keeps(candidate(50.0))
    assert sum(ran) == 2  # unsteered and steered
    limits = budget.constraints
    assert limits is not None and not limits.admit(Scored(candidate(50.0), 0.5)).admissible
    assert not budget.keeps(candidate(50.0))
    assert sum(ran) == 2


def test_a_second_cell_costs_no_unsteered_pass_and_its_figures_are_those_of_the_text_it_saw(counted):
    budget, ran = counted
    budget.keeps(candidate(50.0))
    ran.clear()
    assert budget.keeps(candidate(0.001))
    assert sum(ran) == 1
    limits, meter = budget.constraints, budget.costs.meter
    assert limits is not None
    (kl,) = limits.admit(Scored(candidate(0.001), 0.5)).costs or ()
    first = NeutralText("first", meter.text.windows[list(meter.batches[0])])
    plan = candidate(0.001).cell.plan(budget.vectors["caa"])
    assert kl == pytest.approx(DriftMeter(meter.opened, first).measure(plan).kl, rel=1e-3)


def near(counted, strength=1.0):
    """The budget with a limit of KL a little below what a cell costs on eight windows."""
    budget, ran = counted
    seen = budget.costs.first(candidate(strength).cell.plan(budget.vectors["caa"]), 3)
    assert len(seen.kl) == 8
    run = budget.costs.run
    tight = replace(run, experiment=replace(run.experiment, max_kl=0.999 * float(seen.kl.mean())))
    ran.clear()
    return Budget(replace(budget.costs, run=tight), budget.vectors), ran


def test_a_cell_a_little_beyond_the_budget_on_eight_windows_is_turned_down_there_and_this_is_said(counted):
    budget, ran = near(counted)
    limits = budget.constraints
    assert limits is not None
    turned_down = limits.admit(Scored(candidate(1.0), 0.5))
    assert not turned_down.admissible and ran == []  # all that was asked is known
    assert budget.notes([turned_down]) == (
        "1 cell that scored as well as the chosen one or better goes a little over the budget on the first 88 of 352 "
        "tokens of neutral text; it was not measured on the rest",
    )
    assert budget.notes([limits.admit(Scored(candidate(50.0), 0.5)), Scored(candidate(1.0), 0.5)]) == ()


def test_a_cell_a_little_within_the_budget_on_eight_windows_is_kept_only_by_the_whole_text(counted):
    budget, ran = near(counted)
    run = budget.costs.run
    loose = replace(run, experiment=replace(run.experiment, max_kl=1.002 * (run.experiment.max_kl or 0) / 0.999))
    limits = Budget(replace(budget.costs, run=loose), budget.vectors).constraints
    assert limits is not None
    limits.admit(Scored(candidate(1.0), 0.5))
    assert sum(ran) > 8
