"""Served answers are those of ``steer`` and ``generate``: token by token, log-probabilities and receipts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from tillerman.core.choices import LayerChoice
from tillerman.core.confidence import Confidence
from tillerman.core.gates import ProbeGate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.lookahead import LookaheadSteering
from tillerman.core.steerings.routed import RoutedSteering
from tillerman.core.steerings.sequence import SequenceSteering
from tillerman.core.steerings.transport import TransportSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel
from tillerman.models.running import MANNERS, manner_of

from ... import families, sae_files, tiny
from . import driving
from .driving import NO_END, alone, by_hand, drive, vector

job = partial(driving.job, logit_bias=NO_END)  # all answers are as long as they may be
ROWS = tiny.random_rows([5, 14, 3, 9, 6], seed=4)
MARKER = ROWS[1][3:5]
RECURRENT = {"bamba", "falcon_mamba", "granitemoehybrid", "jamba", "mamba", "mamba2", "nemotron_h"}
SCOPES = {
    "all": Scope(),
    "prompt": Scope("prompt"),
    "last": Scope("last"),
    "generated": Scope("generated"),
    "after_instruction": Scope("after_instruction", marker=MARKER),
    "assistant_turns": Scope("assistant_turns", marker=MARKER, closing=ROWS[1][8:9]),
    "positions": Scope("positions", (1, -2, 16)),
    "thinking": Scope("thinking", opening=(ROWS[1][2],), closing=(2,)),
    "not_in_code": Scope("not_in_code", piece=lambda token: "\n```\n" if token % 7 == 0 else "w"),
}


def ensure_parity(opened, jobs, begins, *, cached=True, near=1e-5, **how):
    """``cached``: ``generate`` runs every token once, so that its receipt counts each once."""
    answers = drive(opened, jobs, begins, **how)
    for one, answer in zip(jobs, answers, strict=True):
        tokens, logprobs, receipt = alone(opened, one)
        assert answer.ended.why == ""
        assert answer.ids == tokens and len(tokens) == one.drawing.max_tokens
        assert answer.logprobs == pytest.approx(logprobs, abs=near)
        if cached:
            assert tuple(dict(touched.tokens) for touched in answer.ended.touched) == receipt
        assert answer.ended.prompt_tokens == len(one.prompt)
    return answers


@pytest.mark.slow
def test_routers_atoms_and_gated_turns_are_steered_over_joins():
    opened = tiny.opened("mixtral")
    router = Intervention(tiny.vector(HookPoint(1, "router"), width=4), 2.0, scope=Scope("generated"))
    weights = Intervention(tiny.vector(HookPoint(0, "router_weights"), width=4, seed=2), 1.0, "reweigh")
    sae = sae_files.orthogonal(tiny.WIDTH, 5, threshold=0.1)
    made = tiny.provenance(width=sae.width)
    atom = SteeringVector({sae.point: sae.w_dec[1]}, {sae.point: 2.0}, made, {sae.point: sae.atom(1).per(1.0)})
    turned, gate = tiny.vector(1, seed=5), Confidence(tiny.vector(1, seed=6).directions[HookPoint(1)], 5.0, -0.5)
    turns = tuple(
        Intervention(one, 0.6, "slerp")
        for one in (replace(turned, confidences={HookPoint(1): gate}), tiny.vector(2, seed=7))
    )
    plans = (by_hand((router, weights)), by_hand((Intervention(atom, 1.5, "clamp_atom"),)), by_hand(turns), ())
    jobs = [job(row, plan, max_tokens=7 - i) for i, (row, plan) in enumerate(zip(ROWS, plans, strict=False))]
    ensure_parity(opened, jobs, [0, 1, 1, 2])


def _jobs_with(*scopes):
    own = [job(ROWS[1], (vector(1, 2.0, scope=scope),), max_tokens=6) for scope in scopes]
    return [job(ROWS[0], max_tokens=9), *own, job(ROWS[2], (vector(0, seed=3),), max_tokens=4)]


def test_scopes_are_exact_where_their_rows_join_late(opened):
    jobs = _jobs_with(*SCOPES.values())
    ensure_parity(opened, jobs, [0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCOPES))
def test_every_scope_is_exact_whatever_the_joins_and_the_pieces_of_prompts(opened, name):
    jobs = _jobs_with(SCOPES[name])
    ensure_parity(opened, jobs, [2, 0, 4])
    ensure_parity(opened, jobs, [0, 3, 3], at_once=4)


@pytest.mark.slow
@pytest.mark.parametrize("operator", tiny.DIRECTED)
def test_every_operator_is_exact_over_joins(opened, operator):
    two = (vector(0, 0.7, operator, seed=2), vector(HookPoint(1, "mlp_out"), 1.0, operator, Scope("generated"), seed=3))
    jobs = [job(ROWS[0], two, max_tokens=8), job(ROWS[1], (vector(1),), max_tokens=6), job(ROWS[3], two, max_tokens=4)]
    ensure_parity(opened, jobs, [0, 1, 3])


def _opens_by_the_last_token(opened, row, direction):
    """A gate that the mean over the prompt would leave shut."""
    with torch.inference_mode():
        read = tiny.hidden_states(opened.model, torch.tensor([row]))[2][0] @ direction
    last, mean = float(read[-1]), float(read.mean())
    sign = 1.0 if last > mean else -1.0
    return ProbeGate(sign * direction, -sign * (last + mean) / 2, HookPoint(1), read="last")


def test_gates_open_and_shut_for_each_row(opened):
    direction = tiny.vector(1, seed=9).directions[HookPoint(1)]
    open_, shut = (SimilarityGate(direction, HookPoint(1), threshold) for threshold in (-1.0, 1.0))
    probe = _opens_by_the_last_token(opened, ROWS[2], direction)
    plans = [(vector(2, gate=gate), vector(2, seed=5, scope=Scope("last"))) for gate in (open_, shut, probe)]
    jobs = [job(row, plan) for row, plan in zip(ROWS, plans, strict=False)]
    answers = ensure_parity(opened, jobs, [0, 2, 2], at_once=3)
    assert [answer.ended.touched[0].gate_open for answer in answers] == [True, False, True]
    assert answers[0].ended.touched[1].gate_open is None
    assert answers[1].ended.touched[0].tokens == {"layers.2.resid_post": 0}


def _routed() -> RoutedSteering:
    """Two layers, of which each of the rows gets one: which, the mean of its prompt says."""
    points, key = (HookPoint(1), HookPoint(2)), tiny.vector(1, seed=9).directions[HookPoint(1)]
    with torch.inference_mode():
        read = [float(tiny.hidden_states(tiny.model(), torch.tensor([row]))[2][0].mean(0) @ key) for row in ROWS]
    middle = sorted(read)[len(read) // 2] - 1e-3
    vectors = {p: dict(tiny.vector(p, seed=p.layer).directions)[p] for p in points}
    choice = LayerChoice(torch.stack([key, -key]), torch.tensor([-middle, middle]), points[0], "mean")
    return RoutedSteering.of(vectors, dict.fromkeys(points, 2.0), tiny.provenance(), choice)


def _contextual() -> dict[str, Intervention]:
    points = (HookPoint(1),)
    norms = dict.fromkeys(points, 2.0)
    drawn = torch.Generator().manual_seed(5)
    table, keys = ({points[0]: torch.randn(4, tiny.WIDTH, generator=drawn)} for _ in range(2))
    offsets = {points[0]: torch.randn(4, generator=drawn)}

    def row(seed: int) -> dict[HookPoint, torch.Tensor]:
        return dict(tiny.vector(points[0], seed=seed).directions)

    name = "layers.0.mlp.down_proj.weight"
    moved = {name: torch.randn(dict(tiny.model().model.named_parameters())[name].shape, generator=drawn)}
    made = tiny.provenance()
    return {
        "gated": Intervention(GatedSteering(norms, norms, made, keys, offsets, table, "relu"), 0.5),
        "transport": Intervention(TransportSteering(norms, norms, made, row(4), row(5), {}, {}), 0.5),
        "routed": Intervention(_routed(), 2.0),
        "sequence": Intervention(SequenceSteering(norms, norms, made, table), 0.5),
        "lookahead": Intervention(
            LookaheadSteering(norms, norms, made, moved, {name: 0}, dict.fromkeys(points, tiny.WIDTH), "fd", 0.1), 0.5
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated", "transport", "sequence", "lookahead", "routed"])
def test_changes_that_depend_on_what_is_read_are_exact_over_joins(opened, name):
    plan = by_hand((_contextual()[name],))
    jobs = [job(ROWS[0], plan, max_tokens=9), job(ROWS[1], plan, max_tokens=5), job(ROWS[2], (vector(0),))]
    ensure_parity(opened, jobs, [0, 2, 3])


PLANS = (
    (vector(0, seed=3), vector(HookPoint(1, "attn_out"), scope=Scope("last"))),
    (),
    (vector(1, 0.5, "rotate", seed=4), vector(2, -2.0, scope=Scope("generated"), seed=6)),
    (vector(0, 1.0, "clamp", Scope("prompt"), seed=7),),
    (vector(HookPoint(2, "heads"), scope=Scope("positions", (0, -1))),),
)


def ensure_family(opened):
    jobs = [job(row, plan, max_tokens=n) for row, plan, n in zip(ROWS, PLANS, (10, 4, 9, 6, 8), strict=True)]
    ensure_parity(opened, jobs, [0, 0, 3, 5, 5])


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_every_family_serves_its_rows_as_alone(kind):
    opened = tiny.opened(kind)
    assert manner_of(opened).joins == (kind != "qwen3_next")
    ensure_family(opened)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(families.KINDS))
def test_every_other_family_serves_its_rows_as_alone(kind):
    causal = families.model(kind)
    opened = OpenModel(causal, tiny.tokenizer(), kind, anatomy(causal))
    jobs = [job(row, (vector(1),) if i else (), max_tokens=4 + i) for i, row in enumerate(ROWS[:3])]
    near = 1e-4 if kind in RECURRENT else 1e-5  # a scan over time adds up the rounding of all its steps
    ensure_parity(opened, jobs, [0, 0, 2], cached=kind != "mpt", near=near)


@pytest.mark.slow
@pytest.mark.parametrize("manner", MANNERS, ids=str)
def test_every_manner_gives_the_same_answers(opened, manner):
    jobs = [job(row, plan) for row, plan in zip(ROWS, PLANS, strict=True)]
    if not manner.together:
        jobs = jobs[:1]
    ensure_parity(opened, jobs, [0] * len(jobs), manner=manner)
