"""Which answer a model gives, what steering costs, and the exam that runs both."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import Written, make_writer
from tillerman.evaluation.exam import Exam, condition, fitting_shots
from tillerman.evaluation.scoring import answers_given, correct
from tillerman.evaluation.side_effects import WINDOW, DriftMeter, NeutralText, joined, neutral_text
from tillerman.evaluation.unsteered_text import UnsteeredText
from tillerman.models import head
from tillerman.models.batches import padded
from tillerman.models.checking import check
from tillerman.steering.steer import steer

from .. import tiny

CHOICES = [Example("choice", f"Question {i}?", ("apple", "stone", "river"), i % 3) for i in range(8)]
LONG = [Example("preference", f"Say {i}.", ("hello dear friend", "hello you dog"), i % 2) for i in range(5)]
WRECK = tiny.wreck(1)


def _naive(model, written):
    with torch.no_grad():
        if not written.whole:
            scores = model(input_ids=torch.tensor([written.prompt])).logits[0, -1].log_softmax(-1)
            return int(np.argmax([float(scores[a[0]]) for a in written.answers]))
        means = []
        for answer in written.answers:
            ids = written.prompt + answer
            scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            means.append(np.mean([float(scores[t - 1, ids[t]]) for t in range(len(written.prompt), len(ids))]))
        return int(np.argmax(means))


def test_answers_are_those_of_the_naive_computation_with_both_kinds_mixed(family):
    opened = tiny.opened(family)
    writer = make_writer(opened.tokenizer)
    items = present([e for pair in zip(CHOICES, LONG, strict=False) for e in pair])
    written = [writer.write(item) for item in items]
    assert {w.whole for w in written} == {True, False}
    done = []
    given = answers_given(opened, written, done.append)
    assert given.tolist() == [_naive(opened.model, w) for w in written]
    assert correct(given, written).tolist() == [g == w.right for g, w in zip(given, written, strict=True)]
    assert sum(done) == sum(len(w.answers) if w.whole else 1 for w in written)


def test_no_items_give_no_answers(opened):
    assert answers_given(opened, []).tolist() == []


def test_a_wrecked_models_answers_are_none_and_never_right(opened):
    written = [make_writer(opened.tokenizer).write(item) for item in present([*CHOICES[:2], *LONG[:2]])]
    exam = Exam(opened, present([*CHOICES[:2], *LONG[:2]]), tuple(written))
    assert exam.given(WRECK).tolist() == [-1] * 4
    assert not exam.correct(WRECK).any()


def test_an_exam_under_a_plan_is_the_steered_models_and_an_empty_plan_the_plain_ones(opened):
    exam = Exam.of(opened, present(CHOICES), make_writer(opened.tokenizer))
    plain = exam.given()
    zero = exam.given((Intervention(tiny.vector(1), 0.0),))
    assert zero.tolist() == plain.tolist() == answers_given(opened, exam.written).tolist()
    strong = [exam.given((Intervention(tiny.vector(1, seed=s), 50.0),)).tolist() for s in range(5)]
    assert any(s != plain.tolist() for s in strong)


def test_groups_are_the_right_letters_or_words_and_free_texts_are_told_by_place(opened):
    writer = make_writer(opened.tokenizer)
    items = present([*CHOICES[:3], Example("yes_no", "Is it?", ("Yes", "No"), 1), *LONG[:2]])
    groups = Exam.of(opened, items, writer).groups
    assert groups[:3] == [i.answers[i.right] for i in items[:3]]
    assert set(groups[:3]) <= set("ABC")
    assert groups[3] == "No"
    assert all(g in ("0", "1") for g in groups[4:])


def test_a_condition_compares_with_the_unsteered_answers_to_the_same_items():
    before, after = np.array([True, False, False]), np.array([True, True, False])
    groups = ["A", "B", "A"]
    assert condition("unsteered", before, None, groups).effect is None
    compared = condition("steered", after, before, groups, "cell")
    assert compared.effect.value == pytest.approx(1 / 3)
    assert compared.rate.value == pytest.approx(2 / 3)
    assert (compared.name, compared.detail) == ("steered", "cell")


def test_as_many_shots_as_fit_the_context_are_taken(opened):
    writer = make_writer(opened.tokenizer)
    items = present(CHOICES)
    exam = Exam.of(opened, items[:2], writer)

    def longest(count):
        made = writer.with_shots(items[2 : 2 + count])
        return max(len(made.write(i).row(k).tokens) for i in exam.items for k in range(len(i.answers)))

    for count in (1, 3):
        shot, taken = fitting_shots(exam, writer, items[2:], 5, longest(count))
        assert taken == count
        assert len(shot.shots) == count
    assert fitting_shots(exam, writer, items[2:], 5, longest(0)) is None
    assert fitting_shots(exam, writer, items[2:], 4, None)[1] == 4
    assert fitting_shots(exam, writer, (), 4, None) is None


@pytest.fixture
def text():
    return NeutralText("t", torch.tensor(tiny.random_rows([12] * 5)))


def test_drift_is_what_the_definitions_say(opened, text):
    vector = tiny.vector(1)
    drift = DriftMeter(opened, text, batch=2).measure((Intervention(vector, 0.5, "add", Scope("last")),))
    with torch.no_grad():
        plain = opened.model(input_ids=text.windows).logits.double().log_softmax(-1)[:, :-1]
        (point,) = vector.points
        handle = tiny.hook(opened.model, "llama", point, lambda h: h + 0.5 * vector.directions[point])
        changed = opened.model(input_ids=text.windows).logits.double().log_softmax(-1)[:, :-1]
        handle.remove()
    target = text.windows[:, 1:, None]
    base, more = -plain.gather(2, target).mean(), -changed.gather(2, target).mean()
    assert drift.perplexity == pytest.approx(float(base.exp()), rel=1e-4)
    assert drift.perplexity_ratio == pytest.approx(float((more - base).exp()), rel=1e-4)
    assert drift.kl == pytest.approx(float((plain.exp() * (plain - changed)).sum(-1).mean()), rel=1e-3)
    assert drift.perplexity_ratio_interval.low <= drift.perplexity_ratio <= drift.perplexity_ratio_interval.high
    assert text.tokens == 5 * 11


def test_plans_measured_together_share_the_unsteered_pass_and_the_blocks_below_their_edits(family, text):
    opened = tiny.opened(family)
    points = [HookPoint(0, "resid_pre"), HookPoint(1, "attn_out"), HookPoint(1), HookPoint(2)]
    plans = [(Intervention(tiny.vector(point), 0.5),) for point in points]
    first, ran = tiny.part(opened.model, family, HookPoint(0, "mlp_out")), []
    handle = first.register_forward_hook(lambda *_: ran.append(1))
    together, done = DriftMeter(opened, text, batch=3), []
    drifts = together.measure_all(plans, done.append)
    handle.remove()
    assert len(ran) == 2 * together.passes  # unsteered, and under the plan that edits block 0, for each batch
    assert sum(done) == len(plans) * together.passes == 4 * 3
    for plan, drift in zip(plans, drifts, strict=True):
        with torch.no_grad():
            plain = opened.model(input_ids=text.windows).logits.log_softmax(-1)[:, :-1]
            with steer(opened.model, plan):
                changed = opened.model(input_ids=text.windows).logits.log_softmax(-1)[:, :-1]
        assert drift.kl == pytest.approx(float((plain.exp() * (plain - changed)).sum(-1).mean()), rel=1e-3)
        assert drift.kl > 1e-3


def test_the_unsteered_model_reads_each_batch_of_a_text_once(family, text):
    opened = tiny.opened(family)
    check(opened.model, opened.parts, opened.id)  # learns what follows the head
    meter, whole = DriftMeter(opened, text, batch=3), DriftMeter(opened, text, batch=3)
    plans = [(Intervention(tiny.vector(HookPoint(2)), strength),) for strength in (0.5, 1.0)]
    first, ran = tiny.part(opened.model, family, HookPoint(0, "mlp_out")), []
    handle = first.register_forward_hook(lambda *_: ran.append(1))
    part = meter.windows_in(meter.batches[:2], plans[:1])
    rest = [meter.windows_in([batch], plans[1:])[0] for batch in meter.batches]
    handle.remove()
    assert len(ran) == len(meter.batches) == 3
    first, second = whole.windows(plans)
    places = [place for batch in meter.batches for place in batch]
    torch.testing.assert_close(part[0].kl, first.kl[places[:4]])
    torch.testing.assert_close(joined(rest).kl, second.kl[places])
    torch.testing.assert_close(joined(rest).unsteered, first.unsteered[places])


def test_the_head_says_once_what_the_unsteered_model_says_of_the_window_that_every_cell_is_asked(opened, text):
    check(opened.model, opened.parts, opened.id)
    meter, plans = DriftMeter(opened, text), [(Intervention(tiny.vector(HookPoint(2)), s),) for s in (0.5, 1.0)]
    asked = []
    handle = opened.parts.causal.get_output_embeddings().register_forward_hook(lambda *_: asked.append(1))
    counts = []
    for plan in (*plans, *plans):
        asked.clear()
        meter.windows_in(meter.batches[:1], [plan])
        counts.append(len(asked))
    handle.remove()
    assert counts[0] > counts[1] == counts[2] == counts[3]


def test_a_softmax_of_a_few_rows_at_a_time_gives_the_same_bits(opened, text, monkeypatch):
    check(opened.model, opened.parts, opened.id)
    hidden, tokens = torch.randn(7, 3, opened.parts.width), torch.arange(7)
    found = []
    for most in (head.CACHED_LOGITS, 2 * tiny.VOCAB, 1):
        monkeypatch.setattr(head, "CACHED_LOGITS", most)
        (drift,) = DriftMeter(opened, text).windows([(Intervention(tiny.vector(HookPoint(2)), 1.0),)])
        said = head.token_logprobs(opened.parts, hidden, tokens)
        found.append([said, drift.unsteered, drift.steered, drift.kl])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_the_first_batches_of_a_text_lie_spread_over_it(opened):
    meter = DriftMeter(opened, NeutralText("long", torch.tensor(tiny.random_rows([12] * 32))))
    assert [len(batch) for batch in meter.batches] == [1, 3, 4, 8, 8, 8]
    for count, apart in ((2, 8), (3, 4), (4, 2), (6, 1)):
        assert sorted(place for batch in meter.batches[:count] for place in batch) == list(range(0, 32, apart))
    assert meter.of_curve == 3  # a quarter of the windows
    assert meter.tokens_in(3) == 8 * 11
    assert DriftMeter(opened, NeutralText("short", meter.text.windows[:5])).of_curve == 3  # eight, or all


def test_of_windows_past_the_first_one_place_is_kept_and_plans_that_begin_elsewhere_have_their_numbers(opened):
    check(opened.model, opened.parts, opened.id)
    long = NeutralText("long", torch.tensor(tiny.random_rows([12] * 32)))
    meter, last = DriftMeter(opened, long), 5
    for layer in (1, 0, 2):
        plan = (Intervention(tiny.vector(HookPoint(layer)), 1.0),)
        (found,), (alone,) = (one.windows_in(one.batches[last:], [plan]) for one in (meter, DriftMeter(opened, long)))
        torch.testing.assert_close(found.kl, alone.kl)
        assert found.kl.mean() > 1e-4
    meter.forget_passes()
    (again,) = meter.windows_in(meter.batches[last:], [plan])
    torch.testing.assert_close(again.kl, found.kl)
    kept = UnsteeredText(opened)
    batch = padded(long.windows[:2].tolist(), pad=0)
    assert kept.of(batch, 2).entering.keys() == {2}
    assert kept.of(replace(batch, rows=batch.rows + 2)).entering.keys() == {1, 2, 3}
    assert kept.of(replace(batch, rows=batch.rows + 4), 0).entering == {}


def test_strength_0_and_no_steering_cost_nothing_at_all(opened, text):
    for plan in ((Intervention(tiny.vector(1), 0.0),), ()):
        drift = DriftMeter(opened, text).measure(plan)
        assert drift.kl == 0.0
        assert drift.perplexity_ratio == 1.0


def test_a_wrecked_model_costs_more_than_any_limit_and_the_cost_is_a_number(opened, text):
    drift = DriftMeter(opened, text).measure(WRECK)
    for cost in (drift.kl, drift.perplexity_ratio, drift.perplexity_ratio_interval.high):
        assert math.isfinite(cost)
        assert cost > 1e5


def test_neutral_text_is_cut_into_equal_windows_that_start_as_texts_do(opened):
    made = neutral_text(opened, "t", ["the cat sat on the mat " * 200, "and the dog lay in the sun " * 200], 3 * WINDOW)
    assert made.windows.shape == (3, WINDOW)
    assert (made.windows[:, 0] == opened.tokenizer.bos_token_id).all()
    with pytest.raises(DataError, match="provide longer texts"):
        neutral_text(opened, "t", ["short"], 1000)


def test_a_written_items_row_reads_from_its_answer_on():
    row = Written((1, 2, 3), ((4,), (5, 6))).row(1)
    assert (row.tokens, row.read_from) == ((1, 2, 3, 5, 6), 3)
