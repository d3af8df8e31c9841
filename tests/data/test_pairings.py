"""Contrast sets exactly as the papers define them."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tillerman.core.errors import FitError
from tillerman.data.examples import Example
from tillerman.data.pairings import caa, ipas_all, ipas_wrong, pas_full, prompt_contrast, prompt_vector
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer

from .. import tiny

ITEMS = present([Example("choice", f"Question {i}?", ("apple", "stone", "river"), i % 3) for i in range(6)])
WRITER = make_writer(tiny.tokenizer())
outcomes = st.lists(st.integers(0, 2), min_size=len(ITEMS), max_size=len(ITEMS))


def _text(row):
    return tiny.tokenizer().decode(list(row.tokens))


def _read(row):
    return tiny.tokenizer().decode(list(row.tokens[row.read_from :]))


def _question(item):
    return f"{item.example.question}\nAnswer:"


def _build(name, predictions, items=ITEMS):
    if name == "caa":
        return caa(items, WRITER)
    return {"pas-full": pas_full, "ipas-all": ipas_all, "ipas-wrong": ipas_wrong}[name](items, predictions, WRITER)


def _split(predictions):
    pairs = list(zip(ITEMS, predictions, strict=True))
    return [(i, s) for i, s in pairs if s == i.right], [(i, s) for i, s in pairs if s != i.right]


@given(outcomes)
def test_pas_full_sets_prompts_answered_right_against_prompts_answered_wrong(predictions):
    right, wrong = _split(predictions)
    if not right or not wrong:
        return
    made = _build("pas-full", predictions)
    assert [_text(r) for r in made.positive] == [i.prompt for i, _ in right]
    assert [_text(r) for r in made.negative] == [i.prompt for i, _ in wrong]
    assert all(row.read_from == len(row.tokens) - 1 for row in (*made.positive, *made.negative))
    assert not made.paired


@given(outcomes)
def test_ipas_all_sets_right_choices_of_right_items_against_the_models_choices_of_wrong_ones(predictions):
    right, wrong = _split(predictions)
    if not right or not wrong:
        return
    made = _build("ipas-all", predictions)
    assert [_text(r) for r in made.positive] == [f"{_question(i)} {i.texts[i.right]}" for i, _ in right]
    assert [_text(r) for r in made.negative] == [f"{_question(i)} {i.texts[said]}" for i, said in wrong]
    assert not made.paired


@given(outcomes)
def test_ipas_wrong_pairs_the_right_choice_with_the_models_choice_of_the_same_wrong_items(predictions):
    _, wrong = _split(predictions)
    if not wrong:
        return
    made = _build("ipas-wrong", predictions)
    assert [_text(r) for r in made.positive] == [f"{_question(i)} {i.texts[i.right]}" for i, _ in wrong]
    assert [_text(r) for r in made.negative] == [f"{_question(i)} {i.texts[said]}" for i, said in wrong]
    assert made.paired
    for row in (*made.positive, *made.negative):
        assert _read(row).strip() in ("apple", "stone", "river")


@pytest.mark.parametrize("name", ["ipas-all", "ipas-wrong"])
def test_introspective_strings_hold_no_option_list(name):
    predictions = [i.right if k % 2 else (i.right + 1) % 3 for k, i in enumerate(ITEMS)]
    made = _build(name, predictions)
    for row in (*made.positive, *made.negative):
        assert "A:" not in _text(row)
        assert "Respond" not in _text(row)


def test_caa_pairs_the_wanted_letter_with_another_one_after_the_same_prompt():
    made = _build("caa", ())
    assert made.paired
    assert len(made.positive) == len(made.negative) == len(ITEMS)
    for item, plus, minus in zip(ITEMS, made.positive, made.negative, strict=True):
        assert _text(plus) == f"{item.prompt} {item.answers[item.right]}"
        assert plus.tokens[: plus.read_from] == minus.tokens[: minus.read_from]
        assert _read(minus).strip() in set(item.answers) - {item.answers[item.right]}
    assert _build("caa", ()) == made


def test_caa_draws_the_other_answer_anew_for_every_item():
    items = present([Example("choice", f"Question {i}?", ("apple", "stone", "river"), 0) for i in range(60)])
    made = _build("caa", (), items)
    letters = [_read(r).strip() for r in made.negative]
    assert min(letters.count(letter) for letter in "ABC") > 10


def test_caa_takes_texts_as_they_are():
    items = present([Example("text", "", ("the cat sat", "the dog lay"), 1)])
    made = _build("caa", (), items)
    assert _read(made.positive[0]) == "the dog lay"
    assert _read(made.negative[0]) == "the cat sat"


@pytest.mark.parametrize("name", ["pas-full", "ipas-all", "ipas-wrong"])
def test_a_model_that_is_always_right_gives_nothing_to_learn_from(name):
    with pytest.raises(
        FitError, match=f"^{name}: the model answers .* correctly, so there is no mistake to learn from"
    ):
        _build(name, [i.right for i in ITEMS])


@pytest.mark.parametrize("name", ["pas-full", "ipas-all"])
def test_a_model_that_is_always_wrong_is_an_error_that_says_what_to_check(name):
    with pytest.raises(FitError, match=r"all 6 training items wrongly; check the labels and the prompt format.*caa"):
        _build(name, [(i.right + 1) % 3 for i in ITEMS])


def test_a_model_that_is_always_wrong_still_teaches_ipas_wrong():
    assert len(_build("ipas-wrong", [(i.right + 1) % 3 for i in ITEMS]).positive) == len(ITEMS)


@pytest.mark.parametrize("name", ["pas-full", "ipas-all", "ipas-wrong"])
def test_labelled_texts_have_no_predictions_and_the_error_names_caa(name):
    items = present([Example("text", "", ("the cat sat", "the dog lay"), 1)])
    with pytest.raises(FitError, match="use --method caa"):
        _build(name, [0], items)


@pytest.mark.parametrize("name", ["pas-full", "ipas-all", "ipas-wrong"])
def test_a_prediction_that_is_no_answer_is_refused(name):
    """-1 would otherwise mean the last option."""
    with pytest.raises(FitError, match="not finite"):
        _build(name, [-1, *(i.right for i in ITEMS[1:])])


def test_a_prompt_is_held_against_silence_at_a_blank_that_opens_the_models_turn() -> None:
    writer = WRITER
    made = prompt_vector(("Be kind.", ""), writer)
    (wanted,), (other,) = made.positive, made.negative
    assert made.paired and wanted.tokens == writer.encode("Be kind. ") and other.tokens == writer.encode(" ")
    assert wanted.read_from == len(wanted.tokens) - 1
    opposite = prompt_vector(("Be kind.", "Be cruel."), WRITER)
    assert opposite.negative[0].tokens == writer.encode("Be cruel. ")


def test_in_a_chat_template_the_prompt_is_the_users_message_and_the_blank_the_models() -> None:
    tokenizer = tiny.tokenizer(tiny.CHAT)
    writer = make_writer(tokenizer)
    (row,) = prompt_vector(("Be kind.", ""), writer).positive
    text = tokenizer.decode(row.tokens)
    assert "Be kind." in text and text.endswith(" ")
    assert text.rstrip().endswith(writer.prompt_text("Be kind.").rstrip()[-6:])


def test_questions_under_a_prompt_are_held_against_the_same_questions_without_it() -> None:
    items = ITEMS[:3]
    writer = WRITER
    made = prompt_contrast(items, ("Be kind.", ""), writer)
    assert [r.tokens for r in made.positive] == [writer.with_system("Be kind.").write(i).prompt for i in items]
    assert [r.tokens for r in made.negative] == [writer.write(i).prompt for i in items]
    assert all(row.read_from == len(row.tokens) - 1 for row in (*made.positive, *made.negative))
    under = prompt_contrast(items, ("Be kind.", ""), writer.with_system("Be short."))
    assert under.positive == made.positive and "Be short." in _text(under.negative[0])
