"""Monitors on a live model: what they read, row by row, and what a crossing does from its token on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.alarms import Alarm
from tillerman.core.errors import HookPointError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models.capture import capture
from tillerman.models.projecting import projections
from tillerman.steering.following import Following
from tillerman.steering.generation import Sampling, continuation_tokens
from tillerman.steering.steer import steer, steer_rows
from tillerman.steering.watching import WatchedAnswer, watched_continuations

from .. import tiny

POINT = HookPoint(1)
ROWS = tiny.random_rows([5, 9, 3, 6], seed=2)
LONG = Sampling(8, min_new_tokens=8)
DIRECTION = tiny.vector(POINT, seed=9).directions[POINT]
PLAN = (Intervention(tiny.vector(2, size=30.0), 1.0),)


def plain(rows=ROWS, sampling=LONG, plans=None):
    return continuation_tokens(tiny.opened(), rows, plans or [()] * len(rows), sampling)


def read_of(row, answer):
    """What the stream projects at the prompt's last token and at each token of the answer, by plain captures."""
    texts = [Row((*row, *answer[:k])) for k in range(len(answer) + 1)]
    h = capture(tiny.opened(), texts, [POINT], read="last")[POINT]
    return (h @ (DIRECTION / DIRECTION.norm())).tolist()


def expected(monitor: Monitor, projected) -> int | None:
    """The crossing by hand: tokens of the answer read when it happens. The last one is not read."""
    if monitor.read == "prompt":
        return 0 if monitor.crosses(projected[0]) else None
    for k in range(1, len(projected) - 1):
        some = projected[1 : k + 1]
        value = some[-1] if monitor.read == "token" else sum(some) / k
        if k >= monitor.least and monitor.crosses(value):
            return k
    return None


def watched(alarms, rows=ROWS, plans=None, sampling=LONG) -> list[WatchedAnswer]:
    return watched_continuations(tiny.opened(), rows, plans or [()] * len(rows), sampling, alarms)


def middle(read: str, above: bool = True) -> float:
    """A threshold that some rows cross and others do not."""
    tops, most = [], max if above else min
    for row, answer in zip(ROWS, plain(), strict=True):
        p = read_of(row, answer)
        means = [sum(p[1 : k + 1]) / k for k in range(1, len(answer))]
        tops.append(p[0] if read == "prompt" else most(p[1:-1]) if read == "token" else most(means))
    tops.sort()
    return (tops[1] + tops[2]) / 2


def first(one: WatchedAnswer) -> int | None:
    return one.crossings[0].token if one.crossings else None


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("read", ["prompt", "mean", "token"])
def test_it_crosses_where_plain_captures_say_and_changes_nothing_of_the_text(read: str, above: bool) -> None:
    monitor = Monitor(DIRECTION, POINT, middle(read, above), above, read)
    found = watched([Alarm("mine", monitor)])
    wanted = [expected(monitor, read_of(row, answer)) for row, answer in zip(ROWS, plain(), strict=True)]
    assert [first(one) for one in found] == wanted and len(set(wanted)) > 1
    assert [list(one.tokens) for one in found] == plain()
    assert not any(one.aborted for one in found)


def test_a_mean_is_read_from_its_least_token_on() -> None:
    found = watched([Alarm("mine", Monitor(DIRECTION, POINT, -1e3, least=3))])
    assert [first(one) for one in found] == [3] * 4


@pytest.mark.parametrize("read", ["prompt", "mean", "token"])
def test_abort_ends_the_answer_with_the_token_that_crossed(read: str) -> None:
    monitor = Monitor(DIRECTION, POINT, middle(read), read=read)
    told = watched([Alarm("mine", monitor)])
    ended = watched([Alarm("mine", monitor, "abort")])
    for before, after, answer in zip(told, ended, plain(), strict=True):
        at = first(before)
        assert list(after.tokens) == answer[:at] and first(after) == at and after.aborted == (at is not None)


@pytest.mark.parametrize("read", ["prompt", "mean", "token"])
def test_steer_is_plain_up_to_the_crossing_and_then_the_plan_on_the_tokens_after_it(read: str) -> None:
    """By hand: the text so far is the prompt, and the plan acts on the positions after the token that crossed."""
    monitor = Monitor(DIRECTION, POINT, middle(read), read=read)
    found = watched([Alarm("mine", monitor, "steer", PLAN)])
    moved = 0
    for row, one, answer in zip(ROWS, found, plain(), strict=True):
        at = first(one)
        if at is None:
            assert list(one.tokens) == answer
            continue
        assert list(one.tokens[: at + 1]) == answer[: at + 1]
        begins, text = len(row) + at, [*row, *answer[: at + 1]]
        while len(text) < len(row) + 8:
            after = tuple(range(begins, len(text)))
            text.append(_next(text, (replace(PLAN[0], scope=Scope("positions", after)),)))
        assert list(one.tokens) == text[len(row) :]
        moved += list(one.tokens) != answer
    assert moved


def _next(text, plan) -> int:
    model = tiny.model()
    with torch.inference_mode(), steer(model, plan):
        logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
    logits = logits.clone()
    logits[2] = -torch.inf  # no text ends before its eighth token
    return int(logits.argmax())


@settings(max_examples=5, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    read=st.sampled_from(["prompt", "mean", "token"]),
    action=st.sampled_from(["warn", "abort", "steer"]),
    threshold=st.floats(-3, 3),
)
def test_each_row_is_what_it_is_alone(lengths, seed, read, action, threshold) -> None:
    rows = tiny.random_rows(lengths, seed=seed)
    alarm = Alarm("mine", Monitor(DIRECTION, POINT, threshold, read=read), action, PLAN if action == "steer" else ())
    plans = [(), PLAN, (), PLAN][: len(rows)]
    sampling = Sampling(6)  # texts may end by themselves, at different places
    together = watched([alarm], rows, plans, sampling)
    for row, plan, one in zip(rows, plans, together, strict=True):
        (alone,) = watched([alarm], [row], [plan], sampling)
        assert (one.tokens, one.text) == (alone.tokens, alone.text)
        assert [(c.alarm, c.token) for c in one.crossings] == [(c.alarm, c.token) for c in alone.crossings]


def test_several_alarms_on_one_text_each_do_their_own() -> None:
    low, high = Monitor(DIRECTION, POINT, -1e3, read="token"), Monitor(DIRECTION, POINT, -1e3, least=4)
    alarms = [Alarm("late", high, "abort"), Alarm("early", low), Alarm("never", Monitor(DIRECTION, POINT, 1e3))]
    for one in watched(alarms):
        assert [(c.alarm, c.token) for c in one.crossings] == [("early", 1), ("late", 4)] and len(one.tokens) == 4


def test_with_random_numbers_the_text_is_that_of_the_same_seed() -> None:
    sampling = Sampling(8, temperature=1.0, seed=3, min_new_tokens=8, shared=True)
    drawn = plain(sampling=sampling)
    found = watched([Alarm("mine", Monitor(DIRECTION, POINT, -1e3, least=5), "abort")], sampling=sampling)
    assert [list(one.tokens) for one in found] == [answer[:5] for answer in drawn]


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_a_users_own_generate_is_steered_from_the_crossing_on_with_any_cache(cache: str) -> None:
    model, monitor = tiny.model(), Monitor(DIRECTION, POINT, -1e3, least=3)
    plan = (replace(PLAN[0], gate=monitor),)
    ids, mask = tiny.padded(ROWS, "left")
    options = {"use_cache": False} if cache == "none" else {"cache_implementation": cache}
    with steer(model, plan) as steered:
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=8, min_new_tokens=8, do_sample=False, **options
        )
    found = watched([Alarm("mine", monitor, "steer", PLAN)])
    assert out[:, ids.shape[1] :].tolist() == [list(one.tokens) for one in found]
    # Tokens 4 to 7 of each answer; without a cache a step has them all again.
    each = sum(range(1, 5)) if cache == "none" else 4
    assert steered.receipt.applied[0].tokens == {"layers.2.resid_post": 4 * each}
    assert "gate mean projection > -1e+03 at layers.1.resid_post" in str(steered.receipt)
    assert [one.crossed for one in steered.followed[monitor]] == [3] * 4


def test_beams_change_texts_under_a_monitor_and_are_refused() -> None:
    model, monitor = tiny.model(), Monitor(DIRECTION, POINT, 0.0)
    ids, mask = tiny.padded(ROWS, "left")
    with (
        pytest.raises(UsageError, match="a monitor follows one text in each row"),
        steer_rows(model, [()] * 4, watching=[monitor], must_apply=False),
    ):
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, num_beams=3, do_sample=False)


def test_the_middle_of_a_text_is_refused() -> None:
    model, monitor = tiny.model(), Monitor(DIRECTION, POINT, 0.0)
    ids, _ = tiny.padded(ROWS[:1], "left")
    with torch.no_grad():
        cache = model(input_ids=ids).past_key_values
        with (
            pytest.raises(UsageError, match="meets the middle of a text"),
            steer_rows(model, [()], watching=[monitor], must_apply=False),
        ):
            model(input_ids=ids[:, :1], past_key_values=cache)


def test_a_prompt_in_pieces_is_read_at_its_own_end() -> None:
    model, row = tiny.model(), ROWS[1]
    monitor = Monitor(DIRECTION, POINT, -1e3, read="prompt")
    with torch.no_grad(), steer_rows(model, [()], watching=[monitor], must_apply=False) as handle:
        whole = torch.tensor([row])
        model.generate(input_ids=whole, max_new_tokens=2, do_sample=False, prefill_chunk_size=4)
    (followed,) = handle.followed[monitor]
    assert followed.crossed == 0 and followed.value == pytest.approx(read_of(row, [])[0], rel=1e-4)


def test_a_monitor_that_the_model_cannot_have_is_refused_by_name() -> None:
    with pytest.raises(MismatchError, match=r"the monitor \(.*\) has width 4, the model 32"):
        watched([Alarm("mine", Monitor(torch.ones(4), POINT, 0.0))])
    with pytest.raises(HookPointError, match=r"layers\.9"):
        watched([Alarm("mine", Monitor(DIRECTION, HookPoint(9), 0.0))])
    with pytest.raises(UsageError, match="no alarm is given"):
        watched([])


@pytest.mark.parametrize("family", tiny.mostly_slow(tiny.CONFIGS))
def test_projections_are_those_of_captures_token_by_token(family: str) -> None:
    opened = tiny.opened(family)
    table = torch.stack([DIRECTION, tiny.vector(POINT, seed=4).directions[POINT]])
    rows = [Row(row, 2) for row in ROWS]
    for place, found in projections(opened, rows, {POINT: table}):
        row = ROWS[place]
        h = capture(opened, [Row(row[: k + 1]) for k in range(2, len(row))], [POINT], read="last")[POINT]
        assert torch.allclose(found[POINT], h @ table.T, atol=1e-3, rtol=1e-3)


def test_a_following_copy_goes_its_own_way() -> None:
    one = Following(Monitor(DIRECTION, POINT, 1.0))
    one.see(0.5)
    twin = one.copy()
    twin.see(5.0)
    assert (one.read, one.crossed, twin.read, twin.crossed) == (1, None, 2, 2)
