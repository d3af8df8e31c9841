"""Gated cropped attention-delta steering: what it reads of a prompt, what its gate says, and what it leaves of the
cache as it was."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache

from tillerman.core.errors import FitError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.core.steerings.gated import GatedSteering
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.gcad import Gcad, _gate, _texts
from tillerman.models.attending import SpanDemands, Spanned, SpanParts, asked, taken
from tillerman.steering.steer import steer

from .. import tiny

P, Q = HookPoint(1, "attn_out"), HookPoint(2, "attn_out")
PROMPT, OTHER = "the dog lay in the sun", "the cat sat on the mat"
WORDS = ("apple", "stone", "river", "cat", "dog", "mat")


def lesson(chat: str | None = None, kind: str = "preference", points=(P, Q), n: int = 6) -> Context:
    opened = tiny.opened("llama", chat)
    answers = [(f" the {WORDS[i % 6]} sat on the mat", f" the {WORDS[i % 5]}") for i in range(n)]
    items = present([Example(kind, f"Which {WORDS[i % 6]} {i}?", answers[i], 0) for i in range(n)])
    writer = make_writer(opened.tokenizer)
    written = tuple(map(writer.write, items))
    return Context(opened, items, written, writer, tuple(points), tiny.provenance(), prompt=lambda: PROMPT)


def planted(n: int = 600, d: int = 12, noise: float = 0.0):
    """Tokens of ``n / 6`` items whose demand their output tells, and a mean query whose own demand is 0.5."""
    drawn = torch.Generator().manual_seed(0)
    h = torch.randn(n, d, generator=drawn) + 1
    demand = h @ torch.randn(d, generator=drawn) / d**0.5 + noise * torch.randn(n, generator=drawn)
    given = SpanParts(torch.zeros(1, d), torch.ones(2, 3) / 6, torch.ones(4, 3))
    return given, SpanDemands(h, demand), torch.arange(n) // 6


def texts_of(context, negative=""):
    return _texts(Gcad(positive=PROMPT, negative=negative).answers(context), 3000)


@pytest.mark.parametrize("chat", [None, tiny.CHAT])
def test_the_prompts_own_tokens_are_the_span_and_answers_are_read_where_they_are_steered(chat):
    context = lesson(chat)
    texts, decode = texts_of(context), context.opened.tokenizer.decode
    for told, other, plain, written in zip(texts.told, texts.other, texts.plain, context.written, strict=True):
        assert PROMPT in decode(told.tokens[slice(*told.span)]) and other.span[0] == other.span[1]
        read = [[text.tokens[at] for at in text.places] for text in (told, plain)]
        assert read[0] == read[1] and other.tokens == plain.tokens
        assert (
            len(plain.places) == len(written.answers[written.right]) + 1 and plain.places[-1] == len(plain.tokens) - 1
        )
    both = texts_of(context, OTHER)
    spans = [decode(text.tokens[slice(*text.span)]) for text in (both.told[0], both.other[0])]
    assert "dog lay in the sun" in spans[0] and "cat sat on the mat" in spans[1] and "Which" not in "".join(spans)


def test_the_vector_is_the_prompts_part_less_the_other_prompts():
    context = lesson()
    texts = texts_of(context, OTHER)
    steering = Gcad(negative=OTHER, sharpness=0.0).fit(context)
    assert isinstance(steering, SteeringVector) and steering.provenance.found["gates"] == []
    for point in (P, Q):
        parts = [taken(context.opened, side, [point.layer])[point.layer].parts for side in (texts.told, texts.other)]
        torch.testing.assert_close(steering.directions[point], (parts[0] - parts[1]).mean(0))
    alone = Gcad(sharpness=0.0).fit(context)
    mine = texts_of(context)
    torch.testing.assert_close(alone.directions[P], taken(context.opened, mine.told, [1])[1].parts.mean(0))
    outputs = asked(context.opened, mine.plain, {1: torch.zeros(2, 8)})[1].outputs
    assert alone.stream_norms[P] == pytest.approx(float(outputs.norm(dim=1).mean()), rel=1e-5)


def test_the_gate_is_two_at_most_and_one_where_a_token_asks_as_answers_under_the_prompt_do():
    given, read, items = planted()
    gate = _gate(given, read, items, 1.5, 0)
    usual = 0.5  # (1/6 * 3) of every head
    got = 2 * (read.outputs.double() @ gate.keys[0] + gate.offsets).sigmoid()
    torch.testing.assert_close(got, 2 * (1.5 * (read.demands.double() - usual)).sigmoid(), atol=0.02, rtol=0.02)
    assert gate.share > 0.99 and 0 < gate.ends[0] < gate.mean < gate.ends[1] < 2
    assert gate.mean == pytest.approx(float(got.mean()))
    steeper = _gate(given, read, items, 15.0, 0)
    assert steeper.ends[0] < gate.ends[0] and steeper.ends[1] > gate.ends[1]


def test_a_demand_that_the_output_does_not_tell_leaves_the_gate_where_it_is_for_all_tokens():
    given, read, items = planted()
    mixed = read.demands[torch.randperm(len(items), generator=torch.Generator().manual_seed(1))]
    gate = _gate(given, replace(read, demands=mixed), items, 1.5, 0)
    assert abs(gate.share) < 0.05 and gate.ends[1] - gate.ends[0] < 0.3


def test_strength_one_adds_to_each_token_what_its_gate_says_and_to_each_row_its_own():
    context = lesson()
    steering = Gcad().fit(context)
    assert isinstance(steering, GatedSteering) and steering.rule == "logistic"
    rows = tiny.random_rows([9, 6])
    ids, mask = tiny.padded(rows, "right")
    seen, plain = [], []
    for keep in (plain, seen):
        plan = Intervention(steering.at(P), 1.0 if keep is seen else 0.0)
        oracle = (context.opened.model, "llama", P, lambda h, keep=keep: keep.append(h) or None)
        with steer(context.opened.model, plan), torch.no_grad(), tiny.hook(*oracle):  # it sees what steering made
            context.opened.model(ids, attention_mask=mask)
    keys, offset, v = steering.keys[P][0], steering.offsets[P], steering.values[P][0]
    gates = (plain[0] @ keys + offset).sigmoid()
    real = mask.bool()
    torch.testing.assert_close(seen[0][real], (plain[0] + gates[..., None] * v)[real], atol=1e-4, rtol=1e-4)
    assert float(gates[real].max() - gates[real].min()) > 1e-3  # tokens differ
    with steer(context.opened.model, Intervention(steering.at(P), 1.0)), torch.no_grad():
        alone = context.opened.model(torch.tensor([rows[1]])).logits
        torch.testing.assert_close(
            context.opened.model(ids, attention_mask=mask).logits[1:, :6], alone, atol=1e-4, rtol=1e-4
        )


def test_the_site_spares_the_cache_no_layer_that_the_stream_would_not_spare():
    """Keys and values of the steered layer and those below are as they were, all above are not, at either site."""
    context = lesson()
    steering = Gcad().fit(context)
    ids = torch.tensor([context.written[0].row(0).tokens])
    moved = {}
    stream = tiny.vector(HookPoint(1, "resid_post"))
    for site, vector in (("none", None), ("attn_out", steering.at(P)), ("resid_post", stream)):
        cache = DynamicCache()
        steered = nullcontext() if vector is None else steer(context.opened.model, Intervention(vector, 1.0))
        with steered, torch.no_grad():
            context.opened.model(ids, past_key_values=cache)
        moved[site] = [(layer.keys, layer.values) for layer in cache.layers]
    for site in ("attn_out", "resid_post"):
        same = [
            [torch.equal(a, b) for a, b in zip(mine, plain, strict=True)]
            for mine, plain in zip(moved[site], moved["none"], strict=True)
        ]
        assert same == [[True, True], [True, True], [False, False]]


def test_the_null_turns_the_prompts_part_by_a_coin_for_each_item_and_keeps_the_gate(monkeypatch):
    context = lesson(n=10, points=(P,))
    fitted = Gcad().fitted(context)
    monkeypatch.setattr("tillerman.methods.gcad.taken", None)  # nothing is read anew
    nulls = [fitted.shuffled(seed) for seed in range(5)]
    real = fitted.vector
    assert sum(null.norm(P) for null in nulls) / 5 < 0.6 * real.norm(P)
    assert {float(null.values[P][0] @ real.values[P][0]) > 0 for null in nulls} == {True, False}
    for null in (*nulls, fitted.random(0)):
        assert torch.equal(null.keys[P], real.keys[P]) and torch.equal(null.offsets[P], real.offsets[P])
    monkeypatch.undo()
    assert torch.equal(Gcad().fit(replace(context, dealt=3)).values[P], nulls[3].values[P])


def test_several_passes_give_what_one_does(monkeypatch):
    whole = Gcad().fit(lesson())
    monkeypatch.setattr("tillerman.models.capture.AT_ONCE", 1)
    apart = Gcad().fit(lesson())
    for name in ("keys", "offsets", "values"):
        torch.testing.assert_close(getattr(whole, name)[Q], getattr(apart, name)[Q], atol=1e-5, rtol=1e-4)
    assert Gcad(tokens=12).fit(lesson()).provenance.found["tokens"] == 12


def test_a_fit_says_what_the_gate_reads_and_does():
    steering = Gcad().fit(lesson())
    (line,) = Gcad().report(steering.provenance.found)
    assert line.startswith("at ") and "the gate, mean (5 to 95 % of tokens): layers.1.attn_out" in line
    assert Gcad(sharpness=0.0).report({"gates": [], "tokens": 3}) == ()
    shown = steering.provenance.found["gates"][0]
    mean = shown[2]
    assert steering.change_norms[P] == pytest.approx(mean * float(steering.values[P].norm()) / 2, rel=1e-3)


def test_what_it_cannot_be_fitted_on_is_named():
    with pytest.raises(UsageError, match="gcad steers attention's output, attn_out, not resid_post"):
        Gcad().fit(lesson(points=(HookPoint(1),)))
    with pytest.raises(FitError, match="labelled texts have none: use prompt-vector"):
        Gcad().fit(lesson(kind="text"))
    with pytest.raises(FitError, match=r"give --prompt TEXT .and --method gcad:negative=TEXT"):
        Gcad().fit(replace(lesson(), prompt=lambda: ""))
    with pytest.raises(UsageError, match="gcad: sharpness=-1"):
        Gcad(sharpness=-1.0)
    context = lesson()
    silent = [Spanned(text.tokens, (0, 0), text.places) for text in texts_of(context).told]
    assert float(taken(context.opened, silent, [1])[1].parts.norm()) == 0
    told = replace(context, writer=replace(context.writer, system=PROMPT))
    told = replace(told, written=tuple(map(told.writer.write, told.items)))
    with pytest.raises(FitError, match="the prompt leaves no tokens of its own"):
        Gcad(positive=PROMPT).fit(told)


@pytest.mark.slow
def test_layers_without_attention_are_refused_where_there_are_no_others():
    opened = tiny.opened("qwen3_next")
    context = replace(lesson(), opened=opened, points=(HookPoint(0, "attn_out"), HookPoint(2, "attn_out")))
    with pytest.raises(FitError, match=r"layers.0.attn_out: nothing at these layers attends"):
        Gcad().fit(context)
