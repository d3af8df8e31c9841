"""The local engine as the door meets it: answers in pieces, some cancelled, and errors that are one job's alone."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
import torch

import tillerman
from tillerman.core.errors import UsageError
from tillerman.core.plan import Intervention, Scope
from tillerman.serving.engine import Chunk, Ended, Engine
from tillerman.serving.engines.local import LocalEngine, LocalSettings

from ... import tiny
from ...small_device import small_device
from .asking import answers, ask, running, with_engine
from .driving import NO_END, alone, by_hand, drive, job, vector

ROWS = tiny.random_rows([5, 14, 3, 9, 6, 7, 4, 8], seed=8)
STEERED = (vector(1, 2.0, scope=Scope("generated")),)


def long_job(opened, plan=(), tokens=100):
    """One that no end token cuts short."""
    return job(ROWS[0], plan, max_tokens=tokens, logit_bias=NO_END)


def test_jobs_at_once_are_answered_as_each_alone(opened):
    jobs = [job(row, STEERED if i % 2 else (), max_tokens=4 + i) for i, row in enumerate(ROWS)]
    for one, answer in zip(jobs, answers(opened, jobs, max_batch=3, prompt_tokens=8), strict=True):
        tokens, logprobs, receipt = alone(opened, one)
        assert (answer.ids, answer.ended.why) == (tokens, "")
        assert answer.logprobs == pytest.approx(logprobs, abs=1e-4)
        assert tuple(dict(touched.tokens) for touched in answer.ended.touched) == receipt


def test_an_answer_comes_in_pieces_and_says_what_it_was(opened):
    async def act(engine):
        typed: Engine = engine
        assert await typed.alive() is None
        return typed.about, [one async for one in typed.answer(long_job(opened, STEERED, tokens=20))]

    about, parts = with_engine(opened, act)
    assert (about.engine, about.layers, about.context) == (f"local-{tillerman.__version__}", tiny.LAYERS, 256)
    assert about.fingerprint == opened.fingerprint
    *pieces, ended = parts
    assert len(pieces) > 3 and all(isinstance(one, Chunk) for one in pieces)
    assert (ended.ending, ended.prompt_tokens, ended.answer_tokens) == ("length", 5, 20)
    assert ended.touched[0].tokens == {"layers.1.resid_post": 20}
    tokens = [taken.token for piece in pieces for taken in piece.tokens]
    whole = tiny.tokenizer().decode(tokens, skip_special_tokens=True)
    assert "".join(piece.text for piece in pieces) == whole.rstrip("\ufffd")


def test_an_end_token_and_a_stop_text_end_an_answer_as_stop(opened):
    plain = drive(opened, [long_job(opened, tokens=30)])[0]
    stop = plain.text[4:6]
    by_text, by_token = answers(
        opened, [replace_drawing(long_job(opened, tokens=30), stop=(stop,)), job(ROWS[0], logit_bias={2: 100.0})]
    )
    assert by_text.ended.ending == "stop" and by_text.text == plain.text[: plain.text.index(stop)]
    assert (by_token.ended.ending, by_token.text, by_token.ended.answer_tokens) == ("stop", "", 1)


def replace_drawing(one, **more):
    return replace(one, drawing=replace(one.drawing, **more))


def test_a_short_answer_does_not_wait_for_a_long_one(opened):
    order = []

    async def act(engine):
        async def note(name, one):
            order.append((name, (await ask(engine, one)).ended.ending))

        long = asyncio.create_task(note("long", long_job(opened)))
        await asyncio.sleep(0.02)
        await note("short", job(ROWS[1], STEERED, max_tokens=2))
        await long

    with_engine(opened, act, max_batch=2)
    assert order == [("short", "length"), ("long", "length")]


@pytest.mark.slow
def test_a_job_beside_a_closed_batch_waits_no_longer_than_it_must():
    opened, order = tiny.opened("qwen3_next"), []

    async def act(engine):
        async def note(name, one):
            await ask(engine, one)
            order.append(name)

        long = asyncio.create_task(note("long", long_job(opened, tokens=120)))
        await asyncio.sleep(0.1)
        await note("short", job(ROWS[1], STEERED, max_tokens=2))
        await long

    with_engine(opened, act, max_batch=2, max_wait_ms=5.0)
    assert order == ["short", "long"]


def test_closing_the_iterator_frees_the_row(opened):
    passes = []

    async def act(engine):
        going = engine.answer(long_job(opened, tokens=240))
        assert isinstance(await anext(going), Chunk)
        await going.aclose()
        handle = opened.parts.decoder.register_forward_pre_hook(lambda _, __: passes.append(1))
        try:
            return await ask(engine, job(ROWS[1], max_tokens=2))
        finally:
            handle.remove()

    assert with_engine(opened, act, max_batch=1).ended.answer_tokens == 2
    assert len(passes) < 20  # the rest of the other answer was not made


def test_a_slow_reader_keeps_nobody_waiting_and_gets_what_it_missed_in_one_piece(opened):
    async def act(engine):
        slow = engine.answer(long_job(opened, tokens=40))
        first = await anext(slow)
        quick = await ask(engine, long_job(opened, tokens=40))
        rest = [one async for one in slow]
        return first, rest, quick

    first, rest, quick = with_engine(opened, act)
    assert len(rest) <= 4 and isinstance(rest[-1], Ended)
    assert first.text + "".join(one.text for one in rest[:-1]) == quick.text


def test_closing_the_engine_ends_running_jobs_as_cancelled_with_what_was_done(opened):
    async def act():
        async with running(opened) as engine:
            going = engine.answer(long_job(opened, STEERED))
            await anext(going)
            waiting = asyncio.create_task(ask(engine, long_job(opened)))
            await asyncio.sleep(0)
        parts = [one async for one in going]
        return parts[-1], (await waiting).ended, await engine.alive()

    ended, other, alive = asyncio.run(act())
    assert ended.ending == "cancelled" and 0 < ended.answer_tokens < 100
    assert ended.touched[0].tokens["layers.1.resid_post"] >= ended.answer_tokens
    assert other.ending == "cancelled" or "closed" in other.why
    assert alive == "the local engine does not run"


def test_a_row_that_steering_has_broken_ends_as_error_and_its_neighbours_go_on(opened):
    jobs = [job(ROWS[0], by_hand(tiny.wreck(1))), job(ROWS[1], STEERED)]
    broken, whole = answers(opened, jobs)
    assert broken.ended.ending == "error" and "no finite probabilities" in broken.ended.why and broken.text == ""
    assert whole.ids == alone(opened, jobs[1])[0]


@pytest.mark.parametrize(
    "scope",
    [Scope("after_instruction", marker=(9, 9, 9)), Scope("positions", (40,)), Scope("positions", (-40,))],
    ids=str,
)
def test_a_plan_that_meets_no_token_is_an_error_and_never_an_unsteered_answer(opened, scope):
    jobs = [job(ROWS[0], (*STEERED, vector(0, scope=scope))), job(ROWS[1], STEERED)]
    idle, whole = answers(opened, jobs)
    assert idle.ended.ending == "error"
    late = scope.positions == (40,)  # it might have come, in a longer answer
    assert idle.text == "" or late
    where = "this prompt and its answer" if late else "this prompt"
    assert idle.ended.why == f"not steered as asked: 'name1' (scope {scope.name}) meets no token of {where}"
    assert idle.ended.touched[0].tokens["layers.1.resid_post"] > 0
    assert whole.ended.why == ""


def test_what_cannot_be_served_is_refused_in_words_that_name_no_path(opened):
    engine = LocalEngine(opened)
    foreign = (Intervention(tiny.vector(1), 1.0),)
    wide = by_hand((Intervention(tiny.vector(1, width=16), 1.0),))
    tagless = (vector(1, scope=Scope("thinking")),)
    assert engine.problem(()) is None and engine.problem(STEERED) is None
    assert "does not belong to this model (weights" in engine.problem(foreign)
    assert "width" in engine.problem(wide)
    assert "needs the model's tags" in engine.problem(tagless)
    assert LocalEngine(opened, LocalSettings(allow_mismatch=True)).problem(foreign) is None

    jobs = [job(ROWS[0], plan) for plan in (foreign, wide, tagless)] + [job(()), job(range(10, 270)), job(ROWS[1])]
    *refused, served = answers(opened, jobs)
    assert [one.ended.ending for one in refused] == ["error"] * 5
    assert refused[0].ended.why == "the plan holds a vector that was not fitted on this model"
    assert "no tokens" in refused[3].ended.why and "260 tokens" in refused[4].ended.why
    assert served.ended.why == ""


def test_an_answer_ends_where_the_context_does(opened):
    (answer,) = answers(opened, [replace(long_job(opened, tokens=500), prompt=tuple(range(10, 260)))])
    assert (answer.ended.ending, answer.ended.answer_tokens) == ("length", 6)


def test_a_pass_that_fails_ends_its_jobs_and_the_engine_lives_on(opened):
    calls = []

    def fails(_, __):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("secret of the prompt")

    async def act(engine):
        handle = opened.parts.decoder.register_forward_pre_hook(fails)
        try:
            broken = await ask(engine, long_job(opened, STEERED))
        finally:
            handle.remove()
        return broken, await ask(engine, job(ROWS[1], STEERED)), await engine.alive()

    tillerman.models.running.manner_of(opened)
    broken, whole, alive = with_engine(opened, act)
    assert (broken.ended.ending, broken.ended.why) == ("error", "the engine failed (RuntimeError)")
    assert whole.ids == alone(opened, job(ROWS[1], STEERED))[0] and alive is None


def test_a_worker_that_has_ended_says_so_to_everybody(opened):
    def ends(_, __):
        raise SystemExit

    async def act(engine):
        handle = opened.parts.decoder.register_forward_pre_hook(ends)
        try:
            going, waiting = await asyncio.gather(*(ask(engine, job(ROWS[0])) for _ in range(2)))
        finally:
            handle.remove()
        return going.ended, waiting.ended, (await ask(engine, job(ROWS[0]))).ended, await engine.alive()

    *endings, alive = with_engine(opened, act, max_batch=1)
    assert alive == "the local engine's worker ended with SystemExit"
    assert [(one.ending, one.why) for one in endings] == [("error", alive)] * 3


@pytest.mark.parametrize("most", [16, 3], ids=["prompts", "answers"])
def test_a_device_without_memory_for_a_batch_runs_it_in_halves(opened, most):
    jobs = [job(row, STEERED, max_tokens=5, logit_bias=NO_END) for row in (ROWS[0], ROWS[4], ROWS[5], ROWS[6])]
    if most == 3:  # a token of each prompt at a time, and then four at once
        jobs = [replace(one, prompt=one.prompt[:3]) for one in jobs]
    with small_device(opened, most) as sizes:
        found = answers(opened, jobs, max_wait_ms=50.0, prompt_tokens=32 if most == 16 else 3)
    assert max(sizes) > most
    assert [one.ended.why for one in found] == [""] * 4
    for one, answer in zip(jobs, found, strict=True):
        (own,) = drive(opened, [one])
        assert (answer.ids, answer.ended.touched) == (own.ids, own.ended.touched)


def test_a_pass_that_fails_half_way_up_is_run_again_as_if_it_had_not_begun(opened):
    """Its first blocks have kept keys and values of it, which nobody must see."""
    refused = []

    def before(_, args):
        if args[0].shape[:2] == (4, 1):
            refused.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")

    jobs = [job(row, STEERED, max_tokens=5, logit_bias=NO_END) for row in (ROWS[0], ROWS[4], ROWS[5], ROWS[6])]
    handle = opened.parts.blocks[2].register_forward_pre_hook(before)
    try:
        found = answers(opened, jobs, max_wait_ms=100.0, prompt_tokens=64)
    finally:
        handle.remove()
    assert refused == [1]
    for one, answer in zip(jobs, found, strict=True):
        (own,) = drive(opened, [one])
        assert (answer.ids, answer.ended.touched) == (own.ids, own.ended.touched)


def test_an_answer_that_half_the_batch_leaves_no_memory_for_is_an_error(opened):
    with small_device(opened, 4):
        (found,) = answers(opened, [job(ROWS[0])])
    assert found.ended.ending == "error" and "no memory" in found.ended.why


def test_more_jobs_than_may_wait_are_refused(opened):
    jobs = [long_job(opened, tokens=8) for _ in range(8)]
    endings = [one.ended for one in answers(opened, jobs, max_batch=1, max_waiting=3, max_wait_ms=200.0)]
    refused = [one for one in endings if one.ending == "error"]
    assert 3 <= len(refused) <= 5 and "waiting already" in refused[0].why


def test_the_callers_random_numbers_are_not_touched_and_the_model_is_free_when_idle(opened):
    async def act(engine):
        state = torch.random.get_rng_state()
        await ask(engine, job(ROWS[0], STEERED, temperature=1.0, seed=4))
        same = torch.equal(state, torch.random.get_rng_state())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with tillerman.steer(opened.model, STEERED), torch.inference_mode():
                    opened.model(torch.tensor([ROWS[0]]))
                return same
            except UsageError:
                await asyncio.sleep(0.01)
        return False

    assert with_engine(opened, act)


def test_an_engine_starts_once_and_answers_only_then(opened):
    async def act():
        engine = LocalEngine(opened)
        with pytest.raises(UsageError, match="start"):
            await ask(engine, job(ROWS[0]))
        await engine.start()
        with pytest.raises(UsageError, match="runs already"):
            await engine.start()
        await engine.close()
        await engine.close()
        await engine.start()
        found = await ask(engine, job(ROWS[0]))
        await engine.close()
        return found

    assert asyncio.run(act()).ended.why == ""
    assert threading.active_count() < 20


@pytest.mark.parametrize("name", ["max_batch", "max_waiting", "max_tokens", "prompt_tokens"])
def test_settings_that_mean_nothing_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} 0: expected at least 1"):
        LocalSettings(**{name: 0})
    with pytest.raises(UsageError, match="max_wait_ms -1: expected 0 or more"):
        LocalSettings(max_wait_ms=-1)
