"""Several texts under way in one block: each is steered by its own prompt, or an error says why not."""

from __future__ import annotations

import asyncio
import copy
import io
import pickle
import threading
from contextlib import ExitStack

import pytest
import torch
from transformers import DynamicCache, LogitsProcessor, TextIteratorStreamer

from tillerman.core.errors import NotAppliedError, TillermanError, UsageError
from tillerman.core.gates import ProbeGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models.capture import capture
from tillerman.steering.steer import steer, steer_rows

from .. import tiny

LONG, SHORT = torch.tensor([tiny.random_rows([9], seed=3)[0]]), torch.tensor([tiny.random_rows([4], seed=4)[0]])
SCOPES = [Scope("all"), Scope("prompt"), Scope("generated"), Scope("last"), Scope("positions", (-2, 5))]
GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
any_scope = pytest.mark.parametrize("scope", SCOPES, ids=str)


def _plan(scope="generated", strength=1.0, layer=1):
    return Intervention(tiny.vector(layer), strength, "add", scope if isinstance(scope, Scope) else Scope(scope))


def _says(model, ids, **more):
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **{**GREEDY, **more})[0].tolist()


def _alone(model, ids, plan, **more):
    with steer(model, plan) as steered:
        said = _says(model, ids, **more)
    return said, sum(steered.receipt.applied[0].tokens.values())


class _Does(LogitsProcessor):
    """Runs something of the user's between two steps, once or at every step."""

    def __init__(self, act, once=False):
        self._act, self._left = act, 1 if once else 10**6

    def __call__(self, ids, scores):
        if self._left:
            self._left -= 1
            self._act()
        return scores


def _in_threads(*jobs):
    errors = []

    def run(job):
        try:
            job()
        except (TillermanError, RuntimeError) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


@any_scope
def test_two_threads_under_one_block_write_what_each_writes_alone(scope):
    model, plan, said = tiny.model(), _plan(scope), {}
    alone = [_alone(model, ids, plan) for ids in (LONG, SHORT)]

    def job(k, ids):
        for _ in range(3):
            said.setdefault(k, []).append(_says(model, ids))

    with steer(model, plan) as steered:
        assert _in_threads(lambda: job(0, LONG), lambda: job(1, SHORT)) == []
    assert said == {k: [text] * 3 for k, (text, _) in enumerate(alone)}
    assert sum(steered.receipt.applied[0].tokens.values()) == 3 * (alone[0][1] + alone[1][1])


def test_threads_with_batches_of_other_sizes_do_not_share_what_is_gathered_per_row():
    model, plan = tiny.model(), (Intervention(tiny.vector(1), 1.0, "ablate"), _plan("all"))
    sizes = {k: SHORT.expand(k, -1) for k in (1, 2, 3)}
    alone, said = {}, {}
    for k, ids in sizes.items():
        with torch.no_grad(), steer(model, plan):
            alone[k] = model(input_ids=ids).logits

    def job(k):
        with torch.no_grad():
            said[k] = [model(input_ids=sizes[k]).logits for _ in range(20)]

    with steer(model, plan):
        assert _in_threads(*(lambda k=k: job(k) for k in sizes)) == []
    assert all(torch.allclose(logits, alone[k], atol=1e-5) for k in sizes for logits in said[k])


@any_scope
def test_a_second_prompt_for_guidance_is_judged_by_its_own_length(scope):
    model, plan, negative = tiny.model(), _plan(scope), {"guidance_scale": 1.5, "negative_prompt_ids": SHORT}
    with steer(model, plan) as steered:
        _says(model, LONG, **negative)
    assert steered.receipt.applied[0].tokens["layers.1.resid_post"] == sum(
        _alone(model, i, plan)[1] for i in (LONG, SHORT)
    )


@any_scope
def test_a_generate_inside_another_is_a_text_of_its_own(scope):
    model, plan, inner = tiny.model(), _plan(scope), []
    outer, own = _alone(model, LONG, plan)[0], _alone(model, SHORT, plan)[0]
    with steer(model, plan):
        said = _says(model, LONG, logits_processor=[_Does(lambda: inner.append(_says(model, SHORT)))])
    assert said == outer
    assert inner == [own] * 6


def test_a_pass_of_the_users_own_between_two_steps_is_a_prompt_of_its_own():
    model, plan, seen = tiny.model(), _plan("last"), []
    with torch.no_grad(), steer(model, plan):
        alone = model(input_ids=SHORT).logits
        outer = _says(model, LONG)
        said = _says(model, LONG, logits_processor=[_Does(lambda: seen.append(model(input_ids=SHORT).logits))])
    assert said == outer
    assert all(torch.equal(logits, alone) for logits in seen)


def test_prompts_that_take_turns_over_caches_of_their_own_keep_their_gates():
    """One gate opens and one stays shut; each continues over its own cache, also one that the decoder made."""
    model, point = tiny.model(), HookPoint(0)
    with torch.no_grad():
        ends = capture(tiny.opened(), [Row(tuple(i[0].tolist())) for i in (LONG, SHORT)], [point])[point]
    away = ends[0] - ends[1]
    gate = ProbeGate(away, -float((ends @ away).mean()), point, "last")
    plan = Intervention(tiny.vector(1), 3.0, "add", Scope("generated"), gate)
    with torch.no_grad(), steer(model, plan, must_apply=False) as steered:
        caches = [model(input_ids=ids).past_key_values for ids in (LONG, SHORT)]
        before = sum(steered.receipt.applied[0].tokens.values())
        for _ in range(3):
            for cache in caches:
                model(input_ids=torch.tensor([[7]]), past_key_values=cache)
        assert before == 1
        assert sum(steered.receipt.applied[0].tokens.values()) == 1 + 3


def test_a_copy_of_a_cache_goes_on_with_the_text_it_was_copied_from():
    model, thinks = tiny.model(), Scope("thinking", opening=(50,), closing=(51,))
    prompt = torch.tensor([[20, 50, 21]])
    with torch.no_grad(), steer(model, _plan(thinks)) as steered:
        cache = DynamicCache()
        model(input_ids=prompt, past_key_values=cache)
        for _ in range(2):
            model(input_ids=torch.tensor([[22, 51, 23]]), past_key_values=copy.deepcopy(cache))
    assert steered.receipt.applied[0].tokens["layers.1.resid_post"] == 2 + 2 * 1


def test_a_copy_of_a_cache_that_could_be_of_two_texts_is_refused_where_the_text_is_read():
    model, caches = tiny.model(), (DynamicCache(), DynamicCache())
    plan = _plan(Scope("thinking", opening=(50,), closing=(51,)))
    with torch.no_grad(), pytest.raises(UsageError, match="copy of a cache, and 2 texts"), steer(model, plan):
        for first, cache in zip((50, 20), caches, strict=True):
            model(input_ids=torch.tensor([[first, 21]]), past_key_values=cache)
        model(input_ids=torch.tensor([[22]]), past_key_values=copy.deepcopy(caches[0]))


@any_scope
def test_a_generate_over_a_cache_that_is_given_the_new_tokens_alone_knows_where_its_prompt_ends(scope):
    model, plan = tiny.model(), _plan(scope)

    def said(ids):
        cache = DynamicCache()
        with torch.no_grad():
            model(input_ids=LONG[:, :5], past_key_values=cache)
        with steer(model, plan) as steered:
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(LONG), past_key_values=cache, **GREEDY)
        return out[0, ids.shape[1] :].tolist(), steered.receipt.applied[0].tokens

    assert said(LONG[:, 5:]) == said(LONG)


def test_a_text_that_outlives_its_block_is_an_error_there_and_in_its_thread():
    model, begun, go_on, found = tiny.new_model(), threading.Event(), threading.Event(), []

    def waits():
        begun.set()
        go_on.wait(60)

    def job():
        try:
            found.append(_says(model, LONG, logits_processor=[_Does(waits, once=True)]))
        except UsageError as error:
            found.append(str(error))

    thread = threading.Thread(target=job)
    with pytest.raises(UsageError, match="ended while a generate"), steer(model, _plan()):
        thread.start()
        begun.wait(60)
    plain = _says(model, SHORT)  # others are free to go on, unsteered
    go_on.set()
    thread.join(60)
    assert len(found) == 1 and "ended while a generate" in found[0]
    assert plain == _says(tiny.new_model(), SHORT)
    assert not model.base_model._forward_pre_hooks and "generate" not in model.__dict__


def test_a_stream_read_to_its_end_inside_the_block_is_the_steered_text():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    alone = _alone(model, LONG, _plan())[0][LONG.shape[1] :]
    with steer(model, _plan()):
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
        thread = threading.Thread(target=_says, args=(model, LONG), kwargs={"streamer": streamer})
        thread.start()
        text = "".join(streamer)
        thread.join(60)
    assert text == tokenizer.decode(alone)


def test_a_generate_taken_from_the_model_in_a_block_that_has_ended_is_refused():
    model = tiny.model()
    with steer(model, _plan("all")):
        taken = model.generate
        model(input_ids=SHORT)
    with pytest.raises(UsageError, match="taken from the model inside a steering block that has ended"):
        taken(input_ids=SHORT, **GREEDY)


def test_a_generate_of_another_thread_that_began_before_the_block_is_not_steered_from_the_middle_on():
    model, begun, go_on, found = tiny.model(), threading.Event(), threading.Event(), []

    def waits():
        begun.set()
        go_on.wait(60)

    def job():
        try:
            found.append(_says(model, LONG, logits_processor=[_Does(waits, once=True)]))
        except UsageError as error:
            found.append(str(error))

    thread = threading.Thread(target=job)
    thread.start()
    begun.wait(60)
    with steer(model, _plan("all"), must_apply=False):
        go_on.set()
        thread.join(60)
    assert "under way when this steering block began" in found[0]


@pytest.mark.parametrize("opens", ["steer", "steer_rows", "capture"])
def test_another_thread_may_not_steer_or_read_the_model_meanwhile(opens):
    model, plan = tiny.opened().model, _plan("all")

    def job():
        if opens == "capture":
            capture(tiny.opened(), [Row((5, 6, 7))], [HookPoint(1)])
        else:
            with steer(model, plan) if opens == "steer" else steer_rows(model, [(plan,)]):
                pass

    with steer(model, plan):
        model(input_ids=SHORT)
        (error,) = _in_threads(job)
        assert isinstance(error, UsageError) and "another thread or task" in str(error)
    assert _in_threads(lambda: capture(tiny.opened(), [Row((5, 6, 7))], [HookPoint(1)])) == []


def test_tasks_of_one_event_loop_do_not_get_each_others_plans():
    model, found = tiny.model(), []

    async def visitor(layer):
        try:
            with steer(model, _plan("all", layer=layer)) as steered:
                await asyncio.sleep(0)
                model(input_ids=SHORT)
            found.append(steered.receipt.applied[0].tokens)
        except UsageError as error:
            found.append(str(error))

    async def both():
        await asyncio.gather(visitor(0), visitor(1))

    asyncio.run(both())
    assert sorted(map(type, found), key=str) == [dict, str]
    assert {"layers.0.resid_post": 4} in found and "another thread or task" in str(found)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
def test_blocks_closed_in_any_order_leave_nothing_behind_and_steer_while_they_are_open(order):
    model = tiny.new_model()
    _says(model, SHORT)  # transformers sets attributes on first use
    state, plain = {n: sorted(m.__dict__) for n, m in model.named_modules()}, _says(model, SHORT)
    plans = [_plan("generated", layer=layer) for layer in range(3)]
    blocks = [steer(model, plan) for plan in plans]
    for block in blocks:
        block.__enter__()
    _says(model, SHORT)
    left = list(range(3))
    for k in order:
        blocks[k].__exit__(None, None, None)
        left.remove(k)
        said = _says(model, SHORT)
        with ExitStack() as stack:
            fresh = tiny.new_model()
            for one in left:
                stack.enter_context(steer(fresh, plans[one]))
            assert said == (_says(fresh, SHORT) if left else plain)
    assert {n: sorted(m.__dict__) for n, m in model.named_modules()} == state
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_others_put_over_our_generate_stays_and_works_after_the_block():
    model = tiny.new_model()
    with steer(model, _plan("all")):
        model.prepare_inputs_for_generation = model.prepare_inputs_for_generation  # as PEFT keeps it
        _says(model, SHORT)
    assert _says(model, SHORT) == _says(tiny.new_model(), SHORT)


@any_scope
def test_a_deep_copy_made_in_a_block_is_a_plain_model_then_and_later(scope):
    model = tiny.new_model()
    plain, logits = _says(model, LONG), model(input_ids=LONG).logits
    with steer(model, _plan(scope, 9.0)):
        twin = copy.deepcopy(model)
        steered = _says(model, LONG)
        assert _says(twin, LONG) == plain != steered
        assert torch.equal(twin(input_ids=LONG).logits, logits)
        with steer(twin, _plan(scope, 9.0)):
            assert _says(twin, LONG) == steered
    assert _says(twin, LONG) == _says(model, LONG) == plain
    assert _says(copy.deepcopy(twin), LONG) == plain


def test_a_block_in_which_only_a_copy_ran_says_that_nothing_was_steered():
    model = tiny.new_model()
    with pytest.raises(NotAppliedError), steer(model, _plan()):
        copy.deepcopy(model)(input_ids=SHORT)


def test_a_model_saved_whole_inside_a_block_is_an_error_and_no_steered_file():
    model = tiny.new_model()
    with steer(model, _plan("all")):
        model(input_ids=SHORT)
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            torch.save(model, io.BytesIO())


@pytest.mark.parametrize("how", ["generate_batch", "paged"])
def test_continuous_batching_is_refused_by_name(how):
    model = tiny.new_model()
    with pytest.raises(UsageError, match="continuous batching"), steer(model, _plan("all")):
        if how == "paged":
            model.generate(input_ids=SHORT, cache_implementation="paged", **GREEDY)
        else:
            model.generate_batch([SHORT[0].tolist()], max_new_tokens=2)


def test_a_pass_of_continuous_batching_that_began_before_the_block_is_refused_too():
    model = tiny.new_model()
    with pytest.raises(UsageError, match="continuous batching"), steer(model, _plan("all")):
        model.base_model(input_ids=SHORT, cache=object())


def test_a_block_of_the_model_called_by_itself_is_refused():
    model = tiny.new_model()
    point = HookPoint(1, "mlp_out")
    with pytest.raises(UsageError, match="called by itself"), steer(model, Intervention(tiny.vector(point), 1.0)):
        model(input_ids=SHORT)
        tiny.part(model, "llama", point)(torch.zeros(1, 2, tiny.WIDTH))
