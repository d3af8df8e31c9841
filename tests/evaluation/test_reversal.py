"""The objective on live models: gradients, sharing, windows, tokenizers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from tillerman.core.errors import UsageError
from tillerman.core.gates import SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.data.examples import Example
from tillerman.data.marked_scopes import after_instruction
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.epo import EpoOptions, optimise, random_texts
from tillerman.evaluation.reversal import Reversal, allowed_tokens, margins, place_in
from tillerman.models.families import anatomy
from tillerman.models.opened import OpenModel
from tillerman.models.windows import Window, frozen_weights, one_hot, open_window
from tillerman.steering.steer import steer

from .. import tiny

WIDTH = 4
YES_NO = present([Example("yes_no", "is the sky blue?", ("Yes", "No"), 0)])[0]
CHOICE = present([Example("choice", "Which of these is a fruit?", ("apple", "stone", "river"), 0)])[0]


def plan_of(opened, scope, strength=1.5, operator="add", layer=1):
    scope = after_instruction(opened.tokenizer) if scope == "after_instruction" else Scope.parse(scope)
    vector = tiny.vector(layer, width=opened.parts.width)
    return (Intervention(vector, strength, operator, scope),)


def reversal(opened, plan=(), item=YES_NO, share=True, width=WIDTH):
    writer = make_writer(opened.tokenizer)
    place = place_in(item, writer, width)
    return Reversal.of(opened, plan, place, writer.write(item), allowed_tokens(opened), share=share)


def chatting(family="llama"):
    return tiny.opened(family, tiny.CHAT)


def texts(one, count, seed=0):
    return random_texts(one, count, torch.Generator().manual_seed(seed))


@cache
def exact(family):
    """In float64, so that differences are slopes."""
    causal = tiny.new_model(family).double()
    return OpenModel(causal, tiny.tokenizer(tiny.CHAT), f"tiny-{family}", anatomy(causal))


@pytest.mark.parametrize("scope", ["after_instruction", "last", "all"])
@pytest.mark.parametrize("family", [f for f in tiny.CONFIGS if f not in tiny.MIXTURES])  # routing jumps
def test_the_gradient_is_the_finite_difference_over_one_hot_inputs(scope, family):
    opened = exact(family)
    one = reversal(opened, plan_of(opened, scope))
    tokens, weights = texts(one, 2), torch.tensor([0.0, 1.0])
    slope = one.gradient(tokens, weights)
    way = torch.randn(slope.shape, generator=torch.Generator().manual_seed(1))
    way /= way.flatten(1).norm(dim=1)[:, None, None]

    def at(size):
        with frozen_weights(opened), torch.no_grad():
            f, x = one.soft_scores(tokens, one_hot(opened, tokens) + size * way)
        return (f - weights * x).double()

    step = 3e-3
    found, told = (at(step) - at(-step)) / (2 * step), (slope * way).flatten(1).sum(1).double()
    assert torch.allclose(found, told, rtol=0.02, atol=1e-3 * float(slope.flatten(1).norm(dim=1).max()))


def test_soft_scores_of_one_hot_vectors_are_the_scores(family):
    opened = chatting(family)
    one = reversal(opened, plan_of(opened, "after_instruction"))
    tokens = texts(one, 3)
    with frozen_weights(opened), torch.no_grad():
        soft = one.soft_scores(tokens, one_hot(opened, tokens))
    for ours, theirs in zip(one.scores(tokens), soft, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("item", [YES_NO, CHOICE], ids=["yes_no", "choice"])
@pytest.mark.parametrize("operator", ["add", "rotate", "clamp"])
@pytest.mark.parametrize("scope", ["after_instruction", "last", "all", "positions:0,-2"])
def test_a_batch_of_texts_has_the_values_of_plain_passes_of_whole_prompts(scope, operator, item):
    """The oracle: each text's prompt alone, under ``steer``; cross-entropy from the model's own logits, unsteered."""
    opened = chatting()
    plan = plan_of(opened, scope, 0.7, operator)
    one = reversal(opened, plan, item)
    written, tokens = make_writer(opened.tokenizer).write(item), texts(one, 6)
    f, x = one.scores(tokens)
    window = one.place.window
    for row, value, entropy in zip(tokens.tolist(), f, x, strict=True):
        ids = torch.tensor([window.filled(row)])
        with torch.no_grad():
            plain = opened.model(input_ids=ids).logits.log_softmax(-1)[0]
            with steer(opened.model, plan):
                logits = opened.model(input_ids=ids).logits[0, -1]
        wrong = [answer[0] for k, answer in enumerate(written.answers) if k != written.right]
        others = [k for k in range(len(logits)) if k not in wrong]
        assert float(value) == pytest.approx(float(logits[wrong].max() - logits[others].max()), abs=1e-4)
        at = len(window.before) - 1
        nats = [-float(plain[at + k, token]) for k, token in enumerate(row)]
        assert float(entropy) == pytest.approx(sum(nats) / WIDTH, abs=1e-4)


@pytest.mark.parametrize("scope", ["after_instruction", "last", "all"])
def test_sharing_the_prompt_before_the_window_changes_no_value_in_any_family(scope, family):
    opened = chatting(family)
    plan = plan_of(opened, scope)
    shared, whole = (reversal(opened, plan, share=share) for share in (True, False))
    tokens = texts(shared, 5)
    for ours, theirs in zip(shared.scores(tokens), whole.scores(tokens), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_prompt_before_the_window_is_shared_where_no_scope_means_it():
    opened = chatting()
    assert reversal(opened, plan_of(opened, "after_instruction")).steered.stem.real.shape[1] > 3
    assert reversal(opened, plan_of(opened, "all")).steered.stem.real.shape[1] == 0


def test_values_do_not_depend_on_how_many_texts_run_together():
    opened = chatting()
    one = reversal(opened, plan_of(opened, "after_instruction"))
    tokens = texts(one, 9)
    alone = [torch.cat(part) for part in zip(*(one.scores(row[None]) for row in tokens), strict=True)]
    for ours, theirs in zip(one.scores(tokens), alone, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_planted_token_that_turns_the_answer_is_found():
    """A head under which "No" leads after one token of the vocabulary and after no other."""
    opened = replace(tiny.fresh_opened(), tokenizer=tiny.tokenizer(tiny.CHAT))
    one = reversal(opened, width=1)
    every = one.allowed.nonzero()
    with torch.no_grad():
        away = one.steered.hidden(every)[:, -1]
        mean = away.mean(0)
        away = away - mean
        metric = torch.linalg.pinv(away.T @ away)
        key = int((away @ metric * away).sum(1).argmax())  # no other lies further out in its direction
        row = metric @ away[key]
        best, second = (away @ row).topk(2).values
        head = torch.nn.Linear(len(row), int(opened.model.config.vocab_size))
        head.weight.zero_(), head.bias.zero_()
        head.weight[one.unwanted[0]] = 1e3 * row
        head.bias[one.unwanted[0]] = -1e3 * (row @ mean + (best + second) / 2)
        opened.model.set_output_embeddings(head)
    assert (one.scores(every)[0] > 0).nonzero().flatten().tolist() == [key]
    found = optimise(one, EpoOptions(weights=(0.0, 0.1), iterations=30, children=8, top=32), seed=0)
    assert found.records[-1].tokens == (int(every[key]),)
    (reversing,) = (text for text in found.records if text.value > 0)
    assert reversing == found.records[-1] and reversing.tried < len(every)


def test_texts_stay_in_their_window_inside_the_users_turn():
    opened = chatting()
    one = reversal(opened)
    tokens = texts(one, 8)
    for row, text in zip(tokens.tolist(), opened.tokenizer.batch_decode(tokens), strict=True):
        (ids,) = one.place.prompts(opened.tokenizer, [text])
        prompt = make_writer(opened.tokenizer).prompt_text(YES_NO.example.question + text)
        assert opened.tokenizer.decode(ids) == prompt
        assert ids == one.place.window.filled(row)
        before, after = one.place.window.before, one.place.window.after
        assert ids[: len(before)] == before and ids[len(ids) - len(after) :] == after


def test_in_a_lettered_question_the_window_stands_before_the_options():
    opened = chatting()
    place = place_in(CHOICE, make_writer(opened.tokenizer), WIDTH)
    assert place.head.endswith("fruit?") and "A: " in place.tail


def test_texts_that_would_be_read_otherwise_do_not_survive():
    """Letters that the tokenizer merges; a blank at the end, which templates strip; a word as it is."""
    opened = chatting()
    one = reversal(opened, width=2)
    ids = opened.tokenizer.convert_tokens_to_ids
    rows = torch.tensor([ids(["t", "h"]), ids(["a", "Ġ"]), ids(["z", "q"])])
    assert one.survives(rows).tolist() == [False, False, True]


def test_special_and_added_tokens_and_parts_of_characters_are_not_allowed():
    opened = chatting()
    allowed = allowed_tokens(opened)
    for token in ("<s>", "<pad>", "<|assistant|>"):
        assert not bool(allowed[opened.tokenizer.convert_tokens_to_ids(token)])
    assert not bool(allowed[opened.tokenizer.convert_tokens_to_ids("Ã")])
    assert int(allowed.sum()) > 90


def test_items_scored_by_whole_answers_are_refused():
    opened = chatting()
    item = present([Example("preference", "say it", ("the cat sat", "the dog lay"), 0)])[0]
    with pytest.raises(UsageError, match="differ in their first token"):
        reversal(opened, item=item)


def test_the_model_is_as_it_was_after_gradients():
    opened = chatting()
    flags = [p.requires_grad for p in opened.model.parameters()]
    one = reversal(opened, plan_of(opened, "all"))
    one.gradient(texts(one, 2), torch.ones(2))
    assert [p.requires_grad for p in opened.model.parameters()] == flags
    assert all(p.grad is None for p in opened.model.parameters())
    assert not opened.model.get_input_embeddings()._forward_hooks


def test_margins_of_whole_prompts_are_the_scores_of_their_texts():
    opened = chatting()
    plan = plan_of(opened, "after_instruction")
    one = reversal(opened, plan)
    tokens = texts(one, 4)
    written = make_writer(opened.tokenizer).write(YES_NO)
    prompts = [one.place.window.filled(row) for row in tokens.tolist()]
    assert torch.allclose(margins(opened, prompts, [written] * 4, plan), one.scores(tokens)[0], atol=1e-4)


def test_a_gated_plan_is_attacked_through_its_gate():
    opened = chatting()
    (item,) = plan_of(opened, "after_instruction")
    gates = [SimilarityGate(torch.ones(opened.parts.width), HookPoint(0), at) for at in (-2.0, 2.0)]
    bare, gated, idle = (reversal(opened, (replace(item, gate=gate),)) for gate in (None, *gates))
    tokens = texts(bare, 3)
    assert torch.allclose(gated.scores(tokens)[0], bare.scores(tokens)[0], atol=1e-4)
    assert torch.allclose(idle.scores(tokens)[0], reversal(opened).scores(tokens)[0], atol=1e-4)


def test_width_and_hook_of_a_window_of_the_first_column_are_right():
    """A window right after the first token: nothing is left to share, and values stay right."""
    opened = chatting()
    window = Window((1,), 2, (5, 6))
    opening = open_window(opened, window)
    hidden = opening.hidden(torch.tensor([[7, 8]]))
    with torch.no_grad():
        plain = opened.parts.decoder(input_ids=torch.tensor([[1, 7, 8, 5, 6]])).last_hidden_state
    assert torch.allclose(hidden, plain, atol=1e-5)
