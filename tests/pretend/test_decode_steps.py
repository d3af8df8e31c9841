"""What a step of decoding and a cell of a grid ask of a device: no step waits for it, whatever the scope."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.models.batches import padded
from tillerman.models.cells import GridCell
from tillerman.models.grid import branch_fault, grid_answer_scores, grid_scores
from tillerman.steering.generation import Sampling, continuation_tokens

from .. import tiny
from .machine import pretend_machine
from .record import DOWN, SYNC, UP
from .test_one_device import moved

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

PROMPTS = tiny.random_rows([7, 4, 6])
MARKER = (PROMPTS[0][2],)
SILENT = [
    Scope("all"),
    Scope("prompt"),
    Scope("generated"),
    Scope("last"),
    Scope("after_instruction", marker=MARKER),
    Scope("positions", positions=(1, -2, 9)),
    Scope("thinking", opening=(11,), closing=(12, 13)),
]
CODE = Scope("not_in_code", piece=lambda token: chr(97 + token % 26))


def waits(plans, steps, prompts=PROMPTS):
    """What lines of tillerman asked of the device in a text of so many steps."""
    with pretend_machine() as record:
        there = moved(tiny.opened())
        record.clear()
        said = continuation_tokens(there, prompts, plans, Sampling(steps, min_new_tokens=steps))
        assert {len(row) for row in said} == {steps}
        return record.ours()


def per_step(plans, prompts=PROMPTS):
    few, many = (waits(plans, steps, prompts) for steps in (3, 9))
    return Counter({event: (many[event] - few[event]) / 6 for event in few | many if many[event] != few[event]})


@pytest.mark.parametrize("scope", SILENT, ids=str)
@pytest.mark.parametrize("operator", ["add", "clamp"])
def test_a_step_of_decoding_waits_for_nothing(scope, operator):
    plan = (Intervention(tiny.vector(0, 2), 0.5, operator=operator, scope=scope),)
    prompts = [(p[0], 11, *MARKER, *p[3:]) for p in PROMPTS]  # of every scope there is a token
    assert per_step([plan] * 3, prompts) == {}


def test_a_step_under_a_plan_for_each_row_waits_for_nothing():
    plans = [(Intervention(tiny.vector(i), 0.5 + i, scope=SILENT[i]),) for i in range(3)]
    assert per_step(plans) == {}


def test_a_step_that_reads_code_fetches_its_new_tokens_once():
    plan = (Intervention(tiny.vector(0, 2), 0.5, scope=CODE),)
    found = per_step([plan] * 3)
    assert {(event.kind, n) for event, n in found.items()} == {(SYNC, 1), (UP, 1)}
    assert {event.line.split(":")[0] for event in found} == {"tillerman/steering/spans.py"}


def test_reading_code_takes_time_in_proportion_to_the_text():
    plan = (Intervention(tiny.vector(0, 2), 0.5, scope=CODE),)
    fetched = []
    for steps in (5, 25):
        with pretend_machine() as record:
            there = moved(tiny.opened())
            record.clear()
            continuation_tokens(there, PROMPTS, [plan] * 3, Sampling(steps, min_new_tokens=steps))
            fetched.append(sum(n for event, n in record.numbers.items() if "spans.py" in event.line))
    assert fetched[1] - fetched[0] == 20 * 3 * 2  # of each row and step the new token, and whether the row is known


def cells(count):
    directions = torch.randn(count, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    return [GridCell(HookPoint(1), direction, 0.1 * k) for k, direction in enumerate(directions)]


@pytest.mark.parametrize("whole", [False, True])
def test_cells_of_one_pass_cost_the_device_as_many_transfers_as_one_cell(whole):
    batch = padded(PROMPTS, pad=0)
    meant = torch.zeros(batch.tokens.shape, dtype=torch.bool)
    meant[:, -2:] = True
    answers = [[[11, 12], [13, 14]]] * 3
    counted = []
    for count in (1, 5):
        with pretend_machine() as record:
            there = moved(tiny.opened())
            assert branch_fault(there) is None
            record.clear()
            if whole:
                grid_answer_scores(there, batch, answers, cells(count), meant, torch.ones(3, 1, dtype=torch.bool))
            else:
                grid_scores(there, batch, [[11, 12]] * 3, cells(count), meant)
            found = record.ours(SYNC, UP, DOWN)
            counted.append({event.line: n for event, n in found.items()})
    assert counted[0] == counted[1]
