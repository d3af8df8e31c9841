"""Rows that hold several texts are refused: a scope means the tokens of one text a row."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import UsageError
from tillerman.core.plan import Intervention, Scope
from tillerman.steering.steer import steer

from .. import tiny

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def _run(positions: list[list[int]], mask: list[list[int]] | None = None, scope: str = "last") -> torch.Tensor:
    opened = tiny.opened("llama", tiny.CHAT)
    given = {} if mask is None else {"attention_mask": torch.tensor(mask)}
    rows = TOKENS.expand(len(positions), -1)
    plan = Intervention(tiny.vector(1), 2.0, scope=Scope(scope))
    with steer(opened, plan, allow_mismatch=True), torch.no_grad():
        logits = opened.model(input_ids=rows, position_ids=torch.tensor(positions), **given).logits
    return logits


@pytest.mark.parametrize(
    "positions",
    [
        [[0, 1, 2, 0, 1, 2]],
        [[0, 1, 0, 1, 0, 1]],
        [[0, 1, 2, 3, 4, 0]],
        [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 0, 1]],
        [[7, 8, 9, 3, 4, 5]],
    ],
)
@pytest.mark.parametrize("scope", ["all", "last", "generated"])
def test_positions_that_begin_anew_within_a_row_are_refused(positions: list[list[int]], scope: str) -> None:
    with pytest.raises(UsageError, match=r"several texts \(packing\).*give each text a row of its own"):
        _run(positions, scope=scope)


@pytest.mark.parametrize(
    ("positions", "mask"),
    [
        ([[0, 1, 2, 3, 4, 5]], None),
        ([[4, 5, 6, 7, 8, 9]], None),
        ([[1, 1, 0, 1, 2, 3]], [[0, 0, 1, 1, 1, 1]]),
        ([[0, 1, 2, 3, 0, 0]], [[1, 1, 1, 1, 0, 0]]),
    ],
)
def test_positions_of_one_text_a_row_are_not(positions: list[list[int]], mask: list[list[int]] | None) -> None:
    plain = tiny.opened("llama", tiny.CHAT)
    given = {} if mask is None else {"attention_mask": torch.tensor(mask)}
    with torch.no_grad():
        unsteered = plain.model(input_ids=TOKENS, position_ids=torch.tensor(positions), **given).logits
    assert not torch.equal(_run(positions, mask), unsteered)
