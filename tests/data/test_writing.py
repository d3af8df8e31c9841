"""Items as tokens: where the answer's tokens really are, for any tokenizer, with and without a template."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from jinja2 import TemplateError

from tillerman.core.errors import DataError, UnknownNameError, UsageError
from tillerman.data.examples import Example
from tillerman.data.marked_scopes import after_instruction, assistant_turns
from tillerman.data.presenting import as_choices, present
from tillerman.data.rephrasings import shifts_of
from tillerman.data.turns import Turn
from tillerman.data.writing import make_writer, start_free

from .. import tiny

CHOICE = Example("choice", "Which is a fruit?", ("apple", "stone", "river"), 0)
YES_NO = Example("yes_no", "Is the sky blue?", ("Yes", "No"), 0)
PREFERENCE = Example("preference", "Say hello.", ("hello dear friend", "hello you dog"), 0)
TEXT = Example("text", "", ("the cat sat", "the dog lay"), 1)

templates = pytest.mark.parametrize("chat", [None, tiny.CHAT], ids=["plain", "chat"])


def _item(example, seed=0):
    return present([example], seed)[0]


def _plain(tokens):
    return tiny.tokenizer().decode(list(tokens))


@templates
@pytest.mark.parametrize("example", [CHOICE, YES_NO, PREFERENCE], ids=lambda e: e.kind)
def test_prompt_and_answer_together_are_what_the_tokenizer_makes_of_the_whole_text(chat, example):
    tokenizer, item = tiny.tokenizer(chat), _item(example)
    writer = make_writer(tokenizer)
    written = writer.write(item)
    for k, answer in enumerate(item.answers):
        row = written.row(k)
        text = _plain(row.tokens)
        assert re.search(rf"{re.escape(item.prompt[-10:])}[\s\S]*{re.escape(answer)}$", text)
        assert row.tokens == tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert _plain(row.tokens[row.read_from :]).strip() == answer
    assert written.right == item.right


BEFORE = (Turn("user", "Is the grass red?"), Turn("assistant", "No."))
AFTER = replace(YES_NO, history=BEFORE)


def test_turns_before_a_question_are_turns_of_the_chat_template():
    writer = make_writer(tiny.tokenizer(tiny.CHAT)).with_system("Be kind.").with_shots([_item(PREFERENCE)])
    told = replace(AFTER, history=(Turn("system", "Be brief."), *BEFORE))
    assert _plain(writer.write(_item(told)).prompt) == (
        "<|system|>\nBe brief.\n\nBe kind.<|end|>\n"
        "<|user|>\nSay hello.<|end|>\n<|assistant|>\nhello dear friend<|end|>\n"
        "<|user|>\nIs the grass red?<|end|>\n<|assistant|>\nNo.<|end|>\n"
        "<|user|>\nIs the sky blue?<|end|>\n<|assistant|>\n"
    )
    assert writer.history == ()


@pytest.mark.parametrize("kind", ["yes_no", "preference"])
def test_without_a_template_turns_before_a_question_are_plain_text(kind):
    told = replace(AFTER, kind=kind, history=(Turn("system", "Be brief."), *BEFORE))
    item = _item(told)
    written = make_writer(tiny.tokenizer()).write(item)
    assert _plain(written.prompt) == (
        "Be brief.\nUser: Is the grass red?\nAssistant: No.\nUser: Is the sky blue?\nAssistant:"
    )
    assert {_plain(a).strip() for a in written.answers} == {"Yes", "No"}


def test_lettered_options_after_earlier_turns_end_in_their_own_cue():
    item = _item(replace(CHOICE, history=BEFORE))
    text = make_writer(tiny.tokenizer()).after(item.example).prompt_text(item.prompt)
    assert text.startswith("User: Is the grass red?\nAssistant: No.\nUser: Which is a fruit?\nA: ")
    assert text.endswith("Answer:")


def test_where_a_template_knows_no_system_role_the_conversations_own_leads_its_first_message():
    told = _item(replace(AFTER, history=(Turn("system", "Be brief."), *BEFORE)))
    text = _plain(make_writer(tiny.tokenizer(tiny.CHAT_WITHOUT_SYSTEM)).write(told).prompt)
    assert text.startswith("<|user|>\nBe brief.\n\nIs the grass red?<|end|>")


def test_an_item_after_earlier_turns_is_shown_with_them_as_a_shot():
    writer = make_writer(tiny.tokenizer(tiny.CHAT)).with_shots([_item(AFTER)])
    assert writer.shots == (("Is the grass red?", "No."), ("Is the sky blue?", "Yes"))


def test_what_was_said_before_is_part_of_an_item_and_stays_with_it():
    assert AFTER.id != YES_NO.id and AFTER.key != YES_NO.key
    assert as_choices([AFTER])[0].history == BEFORE
    shift = next(s for s in shifts_of("choice", chat=True) if s.name == "as yes/no")
    asked = shift.items([_item(replace(CHOICE, history=BEFORE))])
    assert asked[0].example.history == BEFORE


def test_turns_that_are_not_a_conversation_are_refused():
    for turns in ((Turn("assistant", "No."),), (Turn("user", "Hi"),), (*BEFORE, Turn("system", "Be brief."))):
        with pytest.raises(DataError, match="user and assistant in turn"):
            replace(YES_NO, history=turns)
    with pytest.raises(DataError, match="expected a role among system, user, assistant"):
        Turn("tool", "3")


def test_plain_prompts_are_continued_with_a_blank_and_chat_prompts_without():
    item = _item(CHOICE)
    plain = make_writer(tiny.tokenizer()).write(item)
    chat = make_writer(tiny.tokenizer(tiny.CHAT)).write(item)
    assert [_plain(a) for a in plain.answers] == [" A", " B", " C"]
    assert [_plain(a) for a in chat.answers] == ["A", "B", "C"]
    assert plain.one_token_tells
    assert chat.one_token_tells
    assert not plain.whole


def test_statements_of_one_data_set_are_all_written_with_a_blank_whether_or_not_their_first_tokens_tell():
    """In this tokenizer the blank is a token of its own, so with it no first token tells two statements apart."""
    writer = make_writer(tiny.tokenizer())
    for options in (("fun", "lir"), ("fun", "fur")):
        item = _item(Example("choice", "Which word?", options, 0))
        written = writer.write_statements(item)
        assert [_plain(answer) for answer in written.answers] == [f" {text}" for text in item.texts]


def test_a_plain_prompt_that_ends_in_white_space_is_continued_without_another():
    item = _item(Example("preference", "Say hello.\n", ("the friend", "apple pie"), 0))
    written = make_writer(tiny.tokenizer(), "none").write(item)
    # preference prompts are taken as they are: no cue is added
    assert _plain(written.prompt) == "Say hello.\n"
    assert {_plain(a) for a in written.answers} == {"the friend", "apple pie"}


@templates
def test_answers_that_share_their_first_token_are_scored_whole(chat):
    item = _item(Example("yes_no", "Is it?", ("abc definitely", "abc hardly"), 0))
    written = make_writer(tiny.tokenizer(chat)).write(item)
    assert not written.one_token_tells
    assert written.whole
    assert len(written.answers[0]) > 1


def test_a_plain_preference_comes_after_the_system_prompt_and_the_exemplars():
    """Else the prompt baseline and the few-shot baseline of a base model are the unsteered model."""
    plain = make_writer(tiny.tokenizer())
    shot = _item(Example("preference", "Say bye.", ("goodbye friend", "bye dog"), 0))
    wrote = plain.with_system("be kind").with_shots([shot]).text_before("preference", "Say hello.")
    assert wrote == "be kind\n\nSay bye. goodbye friend\n\nSay hello."
    asked = plain.with_system("be kind").write(_item(PREFERENCE))
    assert (
        asked.prompt != plain.write(_item(PREFERENCE)).prompt
        and asked.answers == plain.write(_item(PREFERENCE)).answers
    )


@templates
@pytest.mark.parametrize("example", [PREFERENCE, TEXT], ids=lambda e: e.kind)
def test_preferences_and_texts_are_always_scored_whole(chat, example):
    written = make_writer(tiny.tokenizer(chat)).write(_item(replace(example, options=("the cat", "dog"))))
    assert written.one_token_tells
    assert written.whole


def test_a_text_starts_as_the_model_expects_texts_to_start():
    item = _item(TEXT)
    written = make_writer(tiny.tokenizer(tiny.CHAT)).write(item)
    assert written.prompt == (1,)
    assert {_plain(a) for a in written.answers} == {"the cat sat", "the dog lay"}


def test_a_tokenizer_that_merges_over_the_border_gets_the_pieces_joined():
    class Merging:
        """Joins ``:`` and a following `` A`` or ``A`` into one token, as some tokenizers do."""

        chat_template = None
        bos_token_id = None

        def __call__(self, text, add_special_tokens=False):
            parts = re.findall(r": ?[A-Z]|.", text, re.S)
            return {"input_ids": [sum(map(ord, p)) for p in parts]}

    written = make_writer(Merging()).write(_item(CHOICE))
    assert written.answers == ((65,), (66,), (67,))
    assert written.prompt[-1] == ord(":")
    longer = make_writer(Merging()).write(_item(YES_NO))
    assert set(longer.answers) == {tuple(map(ord, "Yes")), tuple(map(ord, "No"))}


def test_statements_hold_the_question_and_one_answer_and_no_option_list():
    item = _item(CHOICE, seed=3)
    for chat in (None, tiny.CHAT):
        written = make_writer(tiny.tokenizer(chat)).write_statements(item)
        for k, text in enumerate(item.texts):
            said = _plain(written.row(k).tokens)
            assert "Which is a fruit?" in said
            assert "A:" not in said
            assert "Respond" not in said
            assert [t for t in item.texts if t in said] == [text]


def test_the_full_prompt_is_written_as_pas_writes_it():
    item = _item(CHOICE)
    text = make_writer(tiny.tokenizer()).prompt_text(item.prompt)
    options = "\n".join(f"{letter}: {t}" for letter, t in zip("ABC", item.texts, strict=True))
    assert text == f"Which is a fruit?\n{options}\nRespond with a single letter.\nAnswer:"


def test_a_plain_question_gets_the_cue_once():
    writer = make_writer(tiny.tokenizer())
    assert writer.prompt_text("Is it?") == "Is it?\nAnswer:"
    assert writer.prompt_text("Is it?\nAnswer:") == "Is it?\nAnswer:"


def test_shots_and_system_stand_before_the_question():
    items = present([YES_NO, CHOICE])
    shot = items[1].answers[items[1].right]
    plain = make_writer(tiny.tokenizer()).with_system("Be brief.").with_shots(items[1:])
    assert plain.prompt_text("Is it?") == f"Be brief.\n\n{items[1].prompt} {shot}\n\nIs it?\nAnswer:"
    chat = make_writer(tiny.tokenizer(tiny.CHAT)).with_system("Be brief.").with_shots(items[1:])
    assert chat.prompt_text("Is it?") == (
        "<|system|>\nBe brief.<|end|>\n"
        f"<|user|>\n{items[1].prompt}<|end|>\n<|assistant|>\n{shot}<|end|>\n"
        "<|user|>\nIs it?<|end|>\n<|assistant|>\n"
    )
    assert chat.with_system(None).with_shots(()).prompt_text("x") == "<|user|>\nx<|end|>\n<|assistant|>\n"


SILENT = "{% for m in messages if m.role != 'system' %}" + tiny.CHAT.split("%}", 1)[1]


@pytest.mark.parametrize("template", [tiny.CHAT_WITHOUT_SYSTEM, SILENT], ids=["refuses", "passes over"])
def test_a_template_without_a_system_role_puts_its_text_before_the_first_user_message(template):
    writer = make_writer(tiny.tokenizer(template)).with_system("Be brief.")
    assert writer.prompt_text("Is it?") == "<|user|>\nBe brief.\n\nIs it?<|end|>\n<|assistant|>\n"
    items = present([YES_NO])
    text = writer.with_shots(items).prompt_text("Is it?")
    assert text.startswith("<|user|>\nBe brief.\n\nIs the sky blue?<|end|>")
    assert text.count("Be brief.") == 1


def test_a_template_that_fails_otherwise_is_not_hidden():
    writer = make_writer(tiny.tokenizer("{{ raise_exception('broken') }}"))
    with pytest.raises(TemplateError, match="broken"):
        writer.prompt_text("x")


def test_a_chat_template_brings_its_own_first_token_and_plain_text_the_tokenizers():
    tokenizer = tiny.new_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    assert make_writer(tokenizer, "none").encode("x")[0] == 1
    tokenizer.chat_template = tiny.CHAT
    assert make_writer(tokenizer).encode("x")[0] != 1
    written = make_writer(tokenizer, "none").write(_item(CHOICE))
    assert written.prompt.count(1) == 1
    assert all(1 not in answer for answer in written.answers)


def test_the_template_is_chosen_by_what_the_tokenizer_has():
    assert make_writer(tiny.tokenizer()).template == "none"
    assert make_writer(tiny.tokenizer(tiny.CHAT)).template == "chat"
    assert make_writer(tiny.tokenizer(tiny.CHAT), "none").template == "none"
    with pytest.raises(UsageError, match="`template` none"):
        make_writer(tiny.tokenizer(), "chat")
    with pytest.raises(UnknownNameError, match="Did you mean 'chat'"):
        make_writer(tiny.tokenizer(), "chta")


def test_a_text_without_a_token_is_an_error_that_shows_it():
    with pytest.raises(DataError, match="no token for ''"):
        start_free(tiny.tokenizer(), "")


LLAMA2 = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
NOTHING = "{% for m in messages %}{{ m.content }}{% endfor %}"
OTHER_WITHOUT = NOTHING + "{% if add_generation_prompt %} =>{% else %}.{% endif %}"


@pytest.mark.parametrize(
    ("template", "cue"),
    [(tiny.CHAT, "<|assistant|>\n"), (LLAMA2, " [/INST]"), (OTHER_WITHOUT, " =>")],
    ids=["cue", "llama 2", "closes otherwise"],
)
def test_the_instruction_ends_where_the_template_opens_the_answer(template, cue):
    scope = after_instruction(tiny.tokenizer(template))
    assert scope.name == "after_instruction"
    assert _plain(scope.marker) == cue


def test_a_tokenizer_that_marks_no_end_of_instruction_has_no_such_scope():
    with pytest.raises(UsageError, match="needs a chat template"):
        after_instruction(tiny.tokenizer())
    with pytest.raises(UsageError, match="adds nothing after an instruction"):
        after_instruction(tiny.tokenizer(NOTHING))


ENDED = LLAMA2.replace("{% endif %}{% endfor %}", "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}")
TRIMMED = tiny.CHAT.replace("{{ m.content }}", "{{ m.content.strip() }}")
SPOKEN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
FORGETS = tiny.CHAT.replace("{% for m in messages %}", "{% for m in messages %}{% if m.role == 'user' %}").replace(
    "{% endfor %}", "{% endif %}{% endfor %}"
)
OTHERWISE = tiny.CHAT.replace("<|{{ m.role }}|>", "<|{{ 'system' if m.role == 'assistant' else m.role }}|>")


@pytest.mark.parametrize(
    ("template", "opens", "ends"),
    [(tiny.CHAT, "<|assistant|>", "<|end|>"), (TRIMMED, "<|assistant|>", "<|end|>"), (ENDED, " [/INST]", "</s>")],
    ids=["cue", "trims", "llama 2"],
)
def test_the_turns_of_the_assistant_are_found_by_the_templates_marks(template, opens, ends):
    scope = assistant_turns(tiny.tokenizer(template))
    assert (_plain(scope.marker), _plain(scope.closing)) == (opens, ends)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "needs a chat template"),
        (NOTHING, "adds nothing after an instruction"),
        (SPOKEN, "ends an answer with no token of its own"),
        (LLAMA2, "no token of its own"),
        (FORGETS, "no token of its own|cannot be told"),
        (OTHERWISE, "cannot be told from the rest; use 'after_instruction'"),
    ],
    ids=["none", "nothing", "plain words", "no answers", "forgets", "opens otherwise"],
)
def test_a_template_whose_answers_cannot_be_told_has_no_scope_of_turns(template, why):
    with pytest.raises(UsageError, match=f"scope 'assistant_turns'.*({why})"):
        assistant_turns(tiny.tokenizer(template))


words = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8)


def _examples(n):
    return [Example("choice", f"Question {i}?", ("red", "green", "blue", "grey"), 0) for i in range(n)]


def test_the_option_order_differs_between_items_so_that_no_letter_is_always_right():
    shown = present(_examples(200))
    counts = [sum(item.right == k for item in shown) for k in range(4)]
    assert min(counts) > 25  # 50 each on average
    assert len({item.texts for item in shown}) == 24


@given(st.lists(words, min_size=2, max_size=6, unique_by=str.casefold), st.data(), st.integers(0, 99))
def test_what_is_right_stays_right_in_every_order(options, data, seed):
    answer = data.draw(st.integers(0, len(options) - 1))
    for kind in ("choice", "yes_no", "preference"):
        item = _item(Example(kind, "Which?", tuple(options), answer), seed)
        assert item.texts[item.right] == options[answer]
        assert sorted(item.texts) == sorted(options)
        if kind == "choice":
            assert item.answers == tuple("ABCDEF"[: len(options)])
            assert f"{item.answers[item.right]}: {options[answer]}" in item.prompt.split("\n")
        else:
            assert item.answers == item.texts


def test_the_option_order_is_stable_and_does_not_depend_on_the_other_items():
    examples = _examples(30)
    whole, alone = present(examples), present(examples[7:8])
    assert alone[0] == whole[7]
    assert present(examples) == whole
    assert present(examples, seed=1) != whole
    assert present(reversed(examples)) == whole[::-1]


def test_yes_no_questions_become_lettered_choices_and_others_stay():
    made = as_choices([YES_NO, TEXT])
    assert made[0].kind == "choice"
    assert made[0].options == YES_NO.options
    assert made[1] == TEXT


def test_more_options_than_letters_are_refused():
    with pytest.raises(DataError, match="27 options; at most 26"):
        present([Example("choice", "Which?", tuple(f"o{i}" for i in range(27)), 0)])


def test_a_closed_row_ends_with_the_token_that_the_template_writes_after_an_answer():
    writer = make_writer(tiny.tokenizer(tiny.CHAT))
    written = writer.write(_item(YES_NO))
    open_row, closed = writer.answer_row(written, 0), writer.closing_turns().answer_row(written, 0)
    assert open_row == written.row(0)
    assert closed.tokens[:-1] == open_row.tokens
    assert tiny.tokenizer().convert_ids_to_tokens(closed.tokens[-1]) == "<|end|>"
    assert closed.read_from == open_row.read_from


@pytest.mark.parametrize("chat", [None, "{% for m in messages %}{{ m['content'] }} {% endfor %}"])
def test_without_a_token_that_closes_answers_rows_stay_as_they_are(chat):
    assert make_writer(tiny.tokenizer(chat)).closing_turns().closing == ()
