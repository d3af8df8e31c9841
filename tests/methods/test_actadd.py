"""ActAdd against hooks written by hand, and what a steering by position promises on a live model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import FitError, HookPointError, NotAppliedError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.steerings.sequence import SequenceSteering
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.actadd import ActAdd
from tillerman.methods.base import Context
from tillerman.methods.registry import METHODS
from tillerman.pipeline.experiment import Experiment
from tillerman.steering.steer import steer, steer_rows

from .. import tiny
from ..steering.watch import equal_bits

FAMILIES = ["llama", "gpt2", "gemma2", "qwen3_next"]
POINT = HookPoint(1, "resid_pre")
POINTS = (POINT, HookPoint(2, "resid_pre"))
TEXTS = ("the cat sat", "the dog lay in the sun")
ROWS = tiny.random_rows([5, 30, 3, 16])


ASKED = ActAdd(*TEXTS)


def lesson(opened, points=POINTS) -> Context:
    items = present([Example("choice", f"Which {i}?", ("apple", "stone"), i % 2) for i in range(4)])
    writer = make_writer(opened.tokenizer)
    written = tuple(map(writer.write, items))
    return Context(opened, items, written, writer, points, tiny.provenance())


def fitted(opened, texts=TEXTS, **more) -> SequenceSteering:
    return ActAdd(*texts).fit(lesson(opened, **more))


def adding(model, family, steering, strength, once=False):
    """A plain hook that adds to the first tokens of unpadded rows; ``once``: in the first pass only."""
    passes = []

    def change(h):
        passes.append(1)
        if once and len(passes) > 1:
            return None
        new, reach = h.clone(), min(h.shape[1], steering.reach)
        new[:, :reach] += strength * steering.changes[POINT][:reach]
        return new

    return tiny.hook(model, family, POINT, change)


def test_actadd_steers_the_prompt_at_block_inputs_unless_asked_otherwise():
    assert (METHODS["actadd"].habits.scope, METHODS["actadd"].habits.site) == ("prompt", "resid_pre")


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[::-1], ("the cat sat", "")])
def test_the_shorter_text_goes_on_with_blanks(texts):
    opened = tiny.opened()
    sides = ActAdd(*texts).tokens(lesson(opened))
    assert len(sides[0]) == len(sides[1]) == max(len(opened.tokenizer(text)["input_ids"]) for text in texts)
    for side, text in zip(sides, texts, strict=True):
        said = opened.tokenizer.decode(side)
        assert said.startswith(text)
        assert said.removeprefix(text).strip(" ") == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_the_change_is_the_difference_of_the_two_texts_token_by_token(family):
    opened = tiny.opened(family)
    seen = []
    handle = tiny.hook(opened.model, family, POINT, lambda h: seen.append(h[0].clone()))
    try:
        with torch.no_grad():
            for side in ASKED.tokens(lesson(opened)):
                opened.model(input_ids=torch.tensor([side]))
    finally:
        handle.remove()
    steering = fitted(opened)
    torch.testing.assert_close(steering.changes[POINT], seen[0] - seen[1], atol=1e-4, rtol=1e-4)
    moved = (seen[0] - seen[1]).norm(dim=1)
    assert float(moved[0]) < 1e-5  # both begin alike
    assert steering.norm(POINT) == pytest.approx(float(moved[moved > 1e-5].mean()), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_is_steered_as_by_a_hook_on_each_row_alone(family, side):
    model, steering = tiny.model(family), fitted(tiny.opened(family))
    assert len(ROWS[2]) < steering.reach < len(ROWS[1])
    ids, mask = tiny.padded(ROWS, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), steer(model, Intervention(steering.at(POINT), 1.5)) as steered:
        ours = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    handle = adding(model, family, steering, 1.5)
    try:
        for i, row in enumerate(ROWS):
            with torch.no_grad():
                theirs = model(input_ids=torch.tensor([row])).logits[0]
            torch.testing.assert_close(ours[i][mask[i].bool()], theirs, atol=1e-3, rtol=1e-3)
    finally:
        handle.remove()
    reached = sum(min(len(row), steering.reach) for row in ROWS)
    assert steered.receipt.applied[0].tokens == {str(POINT): reached}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
@pytest.mark.parametrize("scope", ["all", "prompt"])
def test_no_step_of_decoding_is_touched_even_where_the_prompt_is_shorter_than_the_change(family, cache, scope):
    if family == "qwen3_next" and cache == "static":
        pytest.skip("a hybrid has no static cache")
    model, steering, row = tiny.model(family), fitted(tiny.opened(family)), ROWS[2]
    options = {"use_cache": False} if cache == "none" else {"cache_implementation": cache}

    def generate(**more):
        return model.generate(
            input_ids=torch.tensor([row]),
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            **more,
        )

    with steer(model, Intervention(steering.at(POINT), 2.0, scope=Scope(scope))) as steered:
        ours = generate(**options)
    handle = adding(model, family, steering, 2.0, once=True)
    try:
        theirs = generate()
    finally:
        handle.remove()
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(torch.cat(ours.logits), torch.cat(theirs.logits), atol=1e-3, rtol=1e-3)
    each = len(row) * (5 if cache == "none" else 1)  # without a cache every step shows the prompt again
    assert steered.receipt.applied[0].tokens == {str(POINT): each}


def test_each_row_has_its_own_plan():
    model, steering = tiny.model(), fitted(tiny.opened())
    other = tiny.vector(POINT, seed=9)
    plans = (
        (Intervention(steering.at(POINT), 1.0),),
        (),
        (Intervention(other, 1.0), Intervention(steering, -0.5, scope=Scope("prompt"))),
        (Intervention(steering.at(POINT), 0.0),),
    )
    ids, mask = tiny.padded(ROWS, "left")

    def run(rows):
        return model(input_ids=ids[rows], attention_mask=mask[rows]).logits

    with torch.no_grad():
        plain = run([0, 1, 2, 3])
        with steer_rows(model, plans):
            ours = run([0, 1, 2, 3])
        for i in (0, 2):
            with steer(model, plans[i]):
                torch.testing.assert_close(ours[i], run([i])[0], atol=1e-3, rtol=1e-3)
            assert not torch.allclose(ours[i], plain[i], atol=1e-2)
    assert equal_bits(ours[1], plain[1])
    assert equal_bits(ours[3], plain[3])


def test_a_scope_that_leaves_the_first_tokens_out_is_an_error():
    model, steering = tiny.model(), fitted(tiny.opened())
    with (
        pytest.raises(NotAppliedError, match="nothing was steered"),
        steer(model, Intervention(steering, 1.0, scope=Scope("last"))),
    ):
        model(input_ids=torch.tensor([ROWS[1]]))


def test_it_is_saved_and_loaded_to_the_same_numbers(tmp_path):
    steering = fitted(tiny.opened())
    save(tmp_path / "v.safetensors", Artefact(steering, Cell.of(steering, scope=Scope("prompt"))))
    back = load(tmp_path / "v.safetensors").steering
    assert isinstance(back, SequenceSteering)
    assert (back.points, back.reach, back.change_norms) == (steering.points, steering.reach, steering.change_norms)
    assert all(torch.equal(back.changes[p], steering.changes[p]) for p in POINTS)
    assert back.at(POINT).points == (POINT,)
    with pytest.raises(HookPointError, match=r"layers\.0\.resid_post: fitted at"):
        back.at(HookPoint(0))


@pytest.mark.parametrize(
    ("texts", "said"),
    [(("", ""), "--prompt TEXT"), (("the cat", "the cat"), "give two that differ: actadd:positive=TEXT,negative=TEXT")],
)
def test_texts_that_say_nothing_are_refused_with_the_remedy(texts, said):
    with pytest.raises(FitError, match=said):
        fitted(tiny.opened(), texts=texts)


def test_labelled_texts_are_refused_with_the_remedy():
    plain = lesson(tiny.opened())
    texts = present([Example("text", "", ("an apple", "a stone"), 0)])
    with pytest.raises(FitError, match="--method caa"):
        ASKED.fit(replace(plain, items=texts, written=tuple(map(plain.writer.write, texts))))


def test_without_a_text_of_its_own_it_takes_the_prompt_of_the_run():
    opened = tiny.opened()
    told = replace(lesson(opened), prompt=lambda: TEXTS[0])
    assert ActAdd(negative=TEXTS[1]).tokens(told) == ASKED.tokens(lesson(opened))
    with pytest.raises(FitError, match="no prompt was given or found"):
        ActAdd(negative=TEXTS[1]).tokens(lesson(opened))
    with pytest.raises(UsageError, match="caa: no option 'negative'; it takes none"):
        Experiment(method="caa:negative=Be dull.")


def test_a_broken_change_is_refused():
    good = fitted(tiny.opened())
    for table, said in ((torch.full((3, 4), torch.nan), "finite"), (torch.ones(2, 4), "same")):
        with pytest.raises(FitError, match=said):
            replace(good, changes={**good.changes, POINT: table})
    with pytest.raises(FitError, match="cover"):
        replace(good, changes={POINT: good.changes[POINT]})


def test_the_random_null_keeps_the_norm_of_every_token():
    steering = fitted(tiny.opened())
    null = steering.random_like(3)
    assert isinstance(null, SequenceSteering)
    for point in POINTS:
        torch.testing.assert_close(null.changes[point].norm(dim=1), steering.changes[point].norm(dim=1))
        cosine = torch.cosine_similarity(null.changes[point], steering.changes[point], dim=1)
        assert cosine.abs().mean() < 0.5
        assert null.dose(point, 1.0) == steering.dose(point, 1.0)
    assert torch.equal(steering.random_like(3).changes[POINT], null.changes[POINT])
    assert not torch.equal(steering.random_like(4).changes[POINT], null.changes[POINT])


def test_the_shuffled_null_swaps_the_texts_by_a_coin():
    plain = lesson(tiny.opened())
    there = ASKED.tokens(plain)
    drawn = [plain.shuffled(seed) for seed in range(40)]
    back = [one for one in drawn if ASKED.tokens(one) == there[::-1]]
    assert 10 <= len(back) <= 30
    assert sum(ASKED.tokens(one) == there for one in drawn) == 40 - len(back)
    assert ASKED.tokens(drawn[0]) == ASKED.tokens(plain.shuffled(0))
    torch.testing.assert_close(ASKED.fit(plain).changes[POINT], -ASKED.fit(back[0]).changes[POINT])
