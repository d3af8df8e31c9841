"""A vector fitted in bf16 steers the same model with 8-bit and 4-bit weights, of torchao and of bitsandbytes."""

from __future__ import annotations

import pytest
import torch

from tillerman.core.errors import MismatchError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.rows import Row
from tillerman.models.capture import capture
from tillerman.models.grid import branch_fault
from tillerman.models.opened import open_model
from tillerman.models.quantising import quantiser
from tillerman.steering.steer import steer

from .. import tiny

quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed: make test installs it")
pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: make test installs it")
granularity = pytest.importorskip("torchao.quantization.granularity")

PACKERS = {
    "int8": lambda model: quantization.quantize_(model, quantization.Int8WeightOnlyConfig()),
    "int4": lambda model: quantization.quantize_(
        model, quantization.IntxWeightOnlyConfig(torch.int4, granularity.PerGroup(32))
    ),
    "nf4": quantiser("nf4"),
}
bits = pytest.mark.parametrize("bits", PACKERS)
POINT = HookPoint(3)


def _quantised(bits):
    opened = open_model("pilot", dtype=torch.bfloat16)
    PACKERS[bits](opened.model)
    return open_model(opened.model, opened.tokenizer)


def _direction(opened):
    """Mean difference between two kinds of random rows."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(3, 1500, (40, 12), generator=generator)
    rows[20:] += 1500
    got = capture(opened, [Row(tuple(row)) for row in rows.tolist()], [POINT])[POINT]
    return got[:20].mean(0) - got[20:].mean(0)


@bits
def test_what_is_read_from_quantised_weights_is_what_bf16_gives_but_for_rounding(bits):
    exact, rounded = _direction(open_model("pilot", dtype=torch.bfloat16)), _direction(_quantised(bits))
    assert float(torch.cosine_similarity(exact, rounded, dim=0)) > (0.99 if bits == "int8" else 0.9)
    assert not torch.equal(exact, rounded)


@bits
def test_steering_quantised_weights_moves_the_logits_as_it_moves_those_of_bf16(bits):
    ids = torch.randint(3, 3000, (4, 20), generator=torch.Generator().manual_seed(1))
    vector = tiny.vector(POINT, width=128, size=8.0)
    moved = []
    for opened in (open_model("pilot", dtype=torch.bfloat16), _quantised(bits)):
        with torch.no_grad():
            plain = opened.model(input_ids=ids).logits.float()
            with steer(opened.model, Intervention(vector, 1.0)) as steered:
                moved.append((opened.model(input_ids=ids).logits.float() - plain).flatten())
            with steer(opened.model, Intervention(vector, 0.0)):
                assert torch.equal(opened.model(input_ids=ids).logits.float(), plain)
        assert steered.receipt.applied[0].touched
    assert float(torch.cosine_similarity(*moved, dim=0)) > (0.98 if bits == "int8" else 0.85)


@bits
def test_a_quantised_model_branches_and_has_a_fingerprint_of_its_own(bits):
    opened, exact = _quantised(bits), open_model("pilot", dtype=torch.bfloat16)
    assert branch_fault(opened) is None
    assert opened.fingerprint != exact.fingerprint
    provenance = tiny.provenance(exact.fingerprint, 128, layers=8)
    with pytest.raises(MismatchError, match="weights"):
        opened.check_provenance(provenance)
    assert opened.check_provenance(provenance, allow_mismatch=True)
