"""In half precision, too, the cell that a search scores is the cell that ``steer`` applies, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests import sae_files

from tillerman.core.confidence import Confidence
from tillerman.core.hookpoint import HookPoint
from tillerman.core.operators import OPERATORS
from tillerman.core.plan import Intervention, Scope
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.batches import batches
from tillerman.models.cells import GridCell
from tillerman.models.families import anatomy
from tillerman.models.grid import grid_scores
from tillerman.models.opened import OpenModel
from tillerman.steering.static import known_edits
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

ROW = tiny.random_rows([5])[0]
STRENGTHS = (0.3, -1.7, 2.35, 0.0)  # of these only 0 is a number of bfloat16
BETWEEN = (0.3, 0.17, 0.85, 0.0)  # what mixes takes none beyond 0 to 1
POINT = HookPoint(1)


def _items(operator):
    vector, sae = tiny.vector(POINT), sae_files.orthogonal(tiny.WIDTH, 5, threshold=0.1)
    if operator == "clamp_atom":
        vector = SteeringVector({POINT: sae.w_dec[3]}, {POINT: 2.0}, tiny.provenance(), {POINT: sae.atom(3)})
    if operator == "slerp":
        gate = Confidence(tiny.vector(POINT, seed=3).directions[POINT], 20.0, 0.1)
        vector = replace(vector, confidences={POINT: gate})
    return [
        Intervention(vector, strength, operator, Scope("all"))
        for strength in (BETWEEN if operator == "replace" else STRENGTHS)
    ]


def _after(model, act, given=None):
    """What enters the block after the hook point while ``act`` runs, and what left the block before any edit;
    ``given`` is put in the place of the latter."""
    before, after = [], []

    def leaves(_, __, output):
        before.append(output)
        return given

    blocks = tiny.blocks(model, "llama")
    handles = [
        blocks[POINT.layer].register_forward_hook(leaves),  # hung first: sees what no edit has touched
        blocks[POINT.layer + 1].register_forward_pre_hook(lambda _, args: after.append(args[0])),
    ]
    with torch.no_grad():
        act()
    for handle in handles:
        handle.remove()
    return before[-1], after[-1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_what_a_search_scores_is_what_is_steered_to_the_last_bit(operator, dtype):
    model = tiny.new_model().to(dtype)
    opened = OpenModel(model, tiny.tokenizer(), "tiny", anatomy(model))
    (batch,) = batches([ROW], pad=0)
    items, meant = _items(operator), torch.ones(1, len(ROW), dtype=torch.bool)
    cells = [GridCell(POINT, item.operand(POINT), item.strength, item.operator) for item in items]
    before, scored = _after(model, lambda: grid_scores(opened, batch, [(20, 30)], cells, meant))
    changed = 0
    for k, item in enumerate(items):
        mine = slice(k * len(ROW), (k + 1) * len(ROW))
        h, wanted = before[:, mine], scored[:, mine]

        def run(item=item):
            with steer(model, item):
                model(input_ids=torch.tensor([ROW]), use_cache=False)

        def run_rows(item=item):
            with steer_rows(model, [(item,)]):
                model(input_ids=torch.tensor([ROW]), use_cache=False)

        for act in (run, run_rows):
            assert torch.equal(_after(model, act, given=h)[1], wanted)
        assert torch.equal(known_edits((item,), {item.scope: meant[0]})[POINT](h), wanted)
        changed += not torch.equal(h, wanted)
    assert changed == len(STRENGTHS) - 1
