"""The scopes that follow the text: between the model's think tags, and outside code and calls."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.data.marked_scopes import after_instruction, not_in_code, thinking
from tillerman.steering.spans import Code, CodeReader
from tillerman.steering.steer import steer

from .. import tiny
from .watch import Watch

POINT = HookPoint(1)
OPEN, CLOSE = 300, 301
THINKING = Scope("thinking", opening=(OPEN,), closing=(CLOSE,))
# Pieces of a made-up vocabulary, 100 onwards; every other token is a word.
PIECES = ["```", "\n", "python", "``", "`", "{", "}", '{"name": "f', '"}', "\n```\n", "<tool_call>", "</tool_call>"]
FENCE, NEWLINE, PYTHON, TWO, ONE, BRACE, CLOSED, CALL, CALLED, WHOLE, TAG, UNTAG = range(100, 100 + len(PIECES))


def piece(token: int) -> str:
    return PIECES[token - 100] if 100 <= token < 100 + len(PIECES) else " word"


NOT_IN_CODE = Scope("not_in_code", piece=piece)


def _says(rows):
    """A logits processor that makes row i say rows[i], whatever the model wants."""
    at = [0]

    def say(_, scores):
        forced = torch.full_like(scores, -1e9)
        for i, row in enumerate(rows):
            forced[i, row[at[0]]] = 0.0
        at[0] += 1
        return forced

    return say


def _steered_columns(scope, prompts, said, cache):
    """Per pass, the columns touched of each row, prompt padding left."""
    model = tiny.model()
    ids, mask = tiny.padded(prompts, "left")
    watch = Watch(tiny.blocks(model, "llama")[POINT.layer])
    plan = Intervention(tiny.vector(POINT), 1.0, "add", scope)
    with watch.outside(), steer(model, plan, must_apply=False), watch.inside():
        model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=len(said[0]),
            do_sample=False,
            logits_processor=[_says(said)],
            eos_token_id=None,
            **({"use_cache": False} if cache == "none" else {"cache_implementation": cache}),
        )
    cached, start = cache != "none", 0
    passes = []
    for before, after in zip(watch.before, watch.after, strict=True):
        changed = (before != after).any(-1)
        passes.append([{c + start for c in row.nonzero()[:, 0].tolist()} for row in changed])
        start += before.shape[1] if cached else 0
    return passes


def _check(scope, prompts, said, meant, cache):
    """``meant``: per row, the tokens (prompt and said, without padding) that the scope holds."""
    width = max(map(len, prompts))
    passes = _steered_columns(scope, prompts, said, cache)
    for n, columns in enumerate(passes):
        for row, prompt in enumerate(prompts):
            shift, stop = width - len(prompt), width + n
            start = 0 if n == 0 or cache == "none" else stop - 1
            assert columns[row] == {t + shift for t in meant[row] if start <= t + shift < stop}, (n, row)


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_rows_think_and_stop_thinking_at_steps_of_their_own(cache):
    prompts = [(20, 21, OPEN), (20, 21, 22, 23), (20, OPEN, 21, CLOSE, 22), (30,)]
    said = [(40, CLOSE, 41, 42, 43), (OPEN, 40, 41, CLOSE, 42), (40, OPEN, 41, CLOSE, OPEN), (40, 41, 42, CLOSE, 43)]
    # A tag counts once it is read: the opening one makes the first thought, the closing one the first word said.
    meant = [{2, 3}, {4, 5, 6}, {1, 2, 6, 7, 9}, set()]
    _check(THINKING, prompts, said, meant, cache)


@pytest.mark.parametrize("cache", ["dynamic", "none"])
def test_a_tag_before_the_answer_opens_no_thought(cache):
    scope = Scope("thinking", marker=(7, 8), opening=(OPEN,), closing=(CLOSE,))
    prompts = [(20, OPEN, 21, 7, 8), (20, 7, 8, OPEN), (20, OPEN, 21)]  # the last has no marker
    said = [(40, 41, OPEN, 42), (40, CLOSE, 41, 42), (40, OPEN, 42, 43)]
    _check(scope, prompts, said, [{7, 8}, {3, 4}, {4, 5}], cache)


@pytest.mark.parametrize("cache", ["dynamic", "none"])
def test_a_tag_of_several_tokens_counts_once_it_is_complete(cache):
    scope = Scope("thinking", opening=(50, 51), closing=(52, 53))
    _check(
        scope,
        [(20, 21), (50, 20)],
        [(50, 51, 40, 52, 53, 41), (51, 50, 51, 52, 40, 53)],
        [{3, 4, 5}, {4, 5, 6, 7}],
        cache,
    )


@pytest.mark.parametrize("cache", ["dynamic", "static", "none"])
def test_rows_write_code_at_steps_of_their_own(cache):
    prompts = [(20, 21), (20, 21, 22), (20,), (FENCE, NEWLINE, 20)]
    said = [
        (FENCE, PYTHON, NEWLINE, 40, NEWLINE, FENCE, NEWLINE, 41),  # prose before: not at a line's start
        (NEWLINE, TWO, ONE, PYTHON, NEWLINE, 40, WHOLE, 41),
        (NEWLINE, CALL, 40, CALLED, 41, TAG, 40, UNTAG),
        (40, WHOLE, 41, 42, NEWLINE, BRACE, CLOSED, 40),
    ]
    everything = [set(range(len(p) + len(s))) for p, s in zip(prompts, said, strict=True)]
    inside = [{7, 8, 9}, {5, 6, 7, 8}, {2, 3, 6, 7}, {0, 1, 2, 3, 8}]
    _check(NOT_IN_CODE, prompts, said, [a - b for a, b in zip(everything, inside, strict=True)], cache)


def test_beams_carry_their_thoughts_with_them():
    model, ids = tiny.model(), torch.tensor([[20, 21, 22], [30, 31, 32]])
    plain = model.generate(input_ids=ids, num_beams=4, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    tags = plain[:, 4], plain[:, 6]  # tokens that the beams say themselves
    scope = Scope("thinking", opening=(int(tags[0][0]),), closing=(int(tags[1][0]),))
    code = Scope("not_in_code", piece=lambda t: "\n```\n" if t in (scope.opening[0], scope.closing[0]) else "w")
    for chosen in (scope, code):
        outs = []
        for use_cache in (True, False):
            with steer(model, Intervention(tiny.vector(POINT), 2.0, "add", chosen), must_apply=False) as steered:
                outs.append(
                    model.generate(
                        input_ids=ids,
                        num_beams=4,
                        max_new_tokens=8,
                        min_new_tokens=8,
                        do_sample=False,
                        use_cache=use_cache,
                        output_scores=True,
                        return_dict_in_generate=True,
                    )
                )
            assert sum(steered.receipt.applied[0].tokens.values()) > 0
        assert torch.equal(outs[0].sequences, outs[1].sequences)
        assert torch.allclose(outs[0].sequences_scores, outs[1].sequences_scores, atol=1e-3)


def test_rows_that_change_places_between_passes_are_read_as_the_texts_they_are():
    rows = torch.tensor([[FENCE, NEWLINE, 20], [20, FENCE, 21], [NEWLINE, FENCE, 20]])
    more = torch.tensor([[20, FENCE, 21, 22], [20, FENCE, 21, 23], [FENCE, NEWLINE, 20, 21]])
    reader, everything = CodeReader(NOT_IN_CODE), torch.ones(3, 4, dtype=torch.bool)
    reader.inside(rows, everything[:, :3])
    assert reader.inside(more, everything).tolist() == [[False] * 4, [False] * 4, [True] * 4]


def _inside(text):
    """For each character, whether the reader is inside code once it is read."""
    state, out = Code(), []
    for c in text:
        state = state.read(c)
        out.append(state.inside)
    return out


@pytest.mark.parametrize(
    "before, code, after",
    [
        ("Look:\n``", "`python\nx = 1\n```", "\nDone."),
        ("~~", "~\n```\n~~\n~~~~", "\nDone."),
        ("- a\n  ``", "`\nx\n  ```  ", "\nDone."),
        ("``", "``\n```\n````", "\nDone."),
        ("", '{"name": "f", "arguments": {"a": "}\\"}"}', "} Done."),
        ("Yes.\n[", '{"a": [1]}, {"b": 2}', "]"),
        ("[TOOL_CALLS]", "", ""),
        ("[TOOL_CALLS][", '{"a": 1}', "]"),
        ("Yes <tool_call", '>\n{"a": "</tool"}\n</tool_call', "> Done."),
        ("Use {x} or [1], or `y`, or ```z.", "", ""),
        ("Say {", "", ""),
    ],
)
def test_code_begins_and_ends_where_a_reader_would_say(before, code, after):
    inside = _inside(before + code + after)
    assert inside == [False] * len(before) + [True] * len(code) + [False] * len(after)


@given(st.text('`~{}[]"\\\nab <tool_call>/', max_size=60), st.integers(0, 60))
def test_a_text_reads_the_same_however_it_is_cut(text, cut):
    assert Code().read(text) == Code().read(text[:cut]).read(text[cut:])


def _tokenizer(chat):
    made = tiny.new_tokenizer(chat)
    made.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    return made


def test_the_scope_of_thoughts_is_made_from_the_tokenizer():
    made = _tokenizer(tiny.CHAT)
    scope = thinking(made)
    assert scope.opening == (made.convert_tokens_to_ids("<think>"),)
    assert scope.closing == (made.convert_tokens_to_ids("</think>"),)
    assert scope.marker == after_instruction(made).marker
    assert thinking(_tokenizer(None)).marker == ()


def test_a_tag_that_is_no_token_of_the_model_is_refused():
    with pytest.raises(UsageError, match=r"'<think>' is \d+ tokens.*opening="):
        thinking(tiny.tokenizer())


@pytest.mark.parametrize("chat", [None, tiny.CHAT])
def test_the_scope_outside_code_reads_the_tokenizers_pieces(chat):
    made = tiny.new_tokenizer(chat)
    scope = not_in_code(made)
    text = "a\n```\nx\n```\nb"
    ids = made(text, add_special_tokens=False)["input_ids"]
    assert "".join(map(scope.piece, ids)) == text
    assert scope.marker == (after_instruction(made).marker if chat else ())


@pytest.mark.parametrize("name", ["thinking", "not_in_code"])
def test_a_scope_that_cannot_read_says_how_to_make_it(name):
    plan = Intervention(tiny.vector(1), 1.0, "add", Scope(name))
    with pytest.raises(UsageError, match=rf"tillerman\.{name}\(tokenizer\)"), steer(tiny.model(), plan):
        tiny.model()(input_ids=torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize("scope", [THINKING, NOT_IN_CODE], ids=str)
def test_embeddings_are_refused_where_the_text_is_read(scope):
    plan = Intervention(tiny.vector(1), 1.0, "add", scope)
    with pytest.raises(UsageError, match="reads token ids"), steer(tiny.model(), plan):
        tiny.model()(inputs_embeds=torch.zeros(1, 3, tiny.WIDTH))


@pytest.mark.parametrize(
    "more", [{"opening": (1,)}, {"piece": piece}, {"marker": (1,)}], ids=["opening", "piece", "marker"]
)
def test_other_scopes_take_none_of_this(more):
    with pytest.raises(UsageError, match="only"):
        Scope("last", **more)


def test_the_model_is_left_as_it_was():
    model = tiny.new_model()
    with steer(model, Intervention(tiny.vector(1), 1.0, "add", NOT_IN_CODE)):
        model.generate(input_ids=torch.tensor([[5, 6]]), max_new_tokens=2)
        assert "prepare_inputs_for_generation" in model.__dict__
    assert not {"generate", "prepare_inputs_for_generation"} & set(model.__dict__)
