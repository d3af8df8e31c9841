"""Scores equal the naive computation, one sequence at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.models import memory
from tillerman.models.checking import check
from tillerman.models.logits import answer_logprobs, answer_sums, option_logprobs, text_predictions
from tillerman.steering.steer import steer

from .. import tiny

TOKENS = tiny.random_rows([5, 2, 9, 3, 12])


def _naive(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0].float().log_softmax(-1)


@pytest.mark.parametrize("budget", [1, 20, 4096])
def test_option_scores_are_the_log_probabilities_of_the_next_token(family, budget):
    options = [(5, 6), (7,), (8, 9, 10), (11, 12), (13, 14)]
    ours = option_logprobs(tiny.opened(family), TOKENS, options, budget=budget)
    for row, option, scores in zip(TOKENS, options, ours, strict=True):
        assert torch.allclose(scores, _naive(tiny.model(family), row)[-1, list(option)], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("budget", [1, 20, 4096])
def test_answer_scores_are_the_mean_log_probability_per_token(family, budget):
    rows = [Row(t, read_from) for t, read_from in zip(TOKENS, (3, 1, 8, 0, 4), strict=True)]
    ours = answer_logprobs(tiny.opened(family), rows, budget=budget)
    for row, score in zip(rows, ours, strict=True):
        every = _naive(tiny.model(family), row.tokens)
        start = max(1, row.read_from)
        each = [every[at - 1, row.tokens[at]] for at in range(start, len(row.tokens))]
        assert float(score) == pytest.approx(float(torch.stack(each).mean()), abs=2e-4)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(2, 15), st.floats(0, 1)), min_size=1, max_size=6), st.integers(1, 60))
def test_answer_scores_do_not_depend_on_neighbours(shapes, budget):
    tokens = tiny.random_rows([n for n, _ in shapes])
    rows = [Row(t, int(share * (len(t) - 1))) for t, (_, share) in zip(tokens, shapes, strict=True)]
    together = answer_logprobs(tiny.opened(), rows, budget=budget)
    alone = torch.cat([answer_logprobs(tiny.opened(), [row]) for row in rows])
    assert torch.allclose(together, alone, atol=2e-4, rtol=1e-4)


def test_scores_of_a_steered_model_are_those_of_a_hand_steered_one(family):
    """The last real token is steered although the batch is padded on the left."""
    point = HookPoint(1)
    vector = tiny.vector(point)
    with steer(tiny.model(family), Intervention(vector, 1.0, "add", Scope("last"))):
        ours = option_logprobs(tiny.opened(family), TOKENS, [(5, 6)] * len(TOKENS))
    for row, scores in zip(TOKENS, ours, strict=True):

        def change(h):
            return torch.cat([h[:, :-1], h[:, -1:] + vector.directions[point]], 1)

        handle = tiny.hook(tiny.model(family), family, point, change)
        naive = _naive(tiny.model(family), row)[-1, [5, 6]]
        handle.remove()
        assert torch.allclose(scores, naive, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("scope", "steered"),
    [
        (Scope("last"), lambda at, prompt: at == prompt - 1),
        (Scope("generated"), lambda at, prompt: at >= prompt - 1),
        (Scope("prompt"), lambda at, prompt: at < prompt),
        (Scope("all"), lambda at, prompt: at >= 0),
        (Scope("positions", (1, -2)), lambda at, prompt: (at == 1) | (at == prompt - 2)),
    ],
    ids=["last", "generated", "prompt", "all", "positions"],
)
def test_to_a_scope_an_answer_that_is_scored_comes_after_the_prompt(family, scope, steered):
    point, prompt = HookPoint(1), TOKENS[2]
    vector = tiny.vector(point)
    answers = [(20, 21, 22), (30,), (40, 41)]
    rows = [Row((*start, *answer), len(start)) for start in (prompt, TOKENS[0]) for answer in answers]
    with steer(tiny.model(family), Intervention(vector, 1.0, "add", scope)):
        ours = answer_logprobs(tiny.opened(family), rows)
    for row, score in zip(rows, ours, strict=True):

        def change(h, row=row):
            here = steered(torch.arange(h.shape[1]), row.read_from)
            return torch.where(here[:, None], h + vector.directions[point], h)

        handle = tiny.hook(tiny.model(family), family, point, change)
        every = _naive(tiny.model(family), row.tokens)
        handle.remove()
        each = [every[at - 1, row.tokens[at]] for at in range(row.read_from, len(row.tokens))]
        assert float(score) == pytest.approx(float(torch.stack(each).mean()), abs=5e-4)


def test_a_prompt_runs_once_for_all_its_answers(opened):
    rows = [Row((*TOKENS[4], *answer), 12) for answer in ((5, 6), (7, 8), (9, 10))]
    seen = []
    handle = tiny.blocks(opened.model, "llama")[0].register_forward_pre_hook(lambda _, a: seen.append(a[0].shape))
    answer_logprobs(opened, rows)
    handle.remove()
    assert [tuple(shape[:2]) for shape in seen] == [(1, 12), (3, 1)]


def test_text_scores_are_those_of_every_position(family):
    opened = tiny.opened(family)
    check(opened.model, opened.parts, opened.id)  # learns what follows the head
    windows = torch.tensor(tiny.random_rows([6, 6]))
    with torch.no_grad():
        said = text_predictions(opened, windows)
        ours = torch.cat([said.logits(here).log_softmax(-1) for here in said.places]).view(2, 6, -1)
    for window, scores in zip(windows.tolist(), ours, strict=True):
        assert torch.allclose(scores, _naive(opened.model, window), atol=1e-4)


@pytest.mark.parametrize("room", [1, 3 * tiny.VOCAB, 2**24])
def test_answers_have_the_same_scores_however_few_logits_are_held(opened, monkeypatch, room):
    check(opened.model, opened.parts, opened.id)
    monkeypatch.setattr(memory, "CPU_LOGITS", room)
    rows = [Row((*tokens, *end), len(tokens)) for tokens in TOKENS for end in ((11, 12, 13), (14,))]
    sums, likeliest = answer_sums(opened, rows)
    for row, total, first in zip(rows, sums, likeliest, strict=True):
        scores = _naive(opened.model, row.tokens)[row.read_from - 1 : -1]
        wanted = torch.tensor(row.tokens[row.read_from :])
        assert float(total) == pytest.approx(float(scores.gather(1, wanted[:, None]).sum()), abs=1e-4)
        assert bool(first) == bool((scores.argmax(1) == wanted).all())


def test_a_row_in_which_nothing_can_be_predicted_is_an_error_and_no_nan(opened):
    with pytest.raises(DataError, match="one token"):
        answer_logprobs(opened, [Row(TOKENS[0], 3), Row((5,), 0)])
