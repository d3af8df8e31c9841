"""The text of an answer as it comes: whole characters, and nothing of a stop text."""

from __future__ import annotations

from hypothesis import given, strategies as st

from tillerman.serving.engine import Taken
from tillerman.serving.engines.local.wording import Wording, Words

from ... import tiny

WORDS = Words(tiny.tokenizer())
HALF = "\ufffd"


def _ids(text):
    return tiny.tokenizer().encode(text, add_special_tokens=False)


def _shown(tokens, stops=()):
    """The pieces, whether a stop text has ended them, and the tokens shown."""
    wording = Wording(WORDS, stops)
    pieces, shown = [], []
    for token in tokens:
        one = wording.add(Taken(token, WORDS.of(token)))
        pieces.append(one.text)
        shown += [taken.token for taken in one.tokens]
        if one.stopped:
            return pieces, True, shown
    last = wording.rest()
    return [*pieces, last.text], last.stopped, shown + [taken.token for taken in last.tokens]


@given(st.text(max_size=40))
def test_pieces_make_up_the_text_and_hold_no_half_character(text):
    pieces, stopped, shown = _shown(_ids(text))
    assert "".join(pieces) == text and not stopped
    assert not any(HALF in piece for piece in pieces) or HALF in text
    assert shown == _ids(text)


@given(st.text("abc 🙂é", max_size=30), st.lists(st.text("abc é", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_text_is_shown_up_to_its_first_stop_text(text, stops):
    pieces, stopped, shown = _shown(_ids(text), stops)
    places = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    assert stopped == bool(places)
    assert "".join(pieces) == (text[: min(places)] if places else text)
    assert shown == _ids(text)[: len(shown)]


def test_what_may_begin_a_stop_text_is_held_back_with_its_tokens_and_shown_once_it_does_not():
    wording = Wording(WORDS, ["</end>"])
    seen = [wording.add(Taken(token, "")) for token in _ids("ok</e")]
    assert "".join(one.text for one in seen) == "ok"
    assert [len(one.tokens) for one in seen][-3:] == [0, 0, 0]
    later = [wording.add(Taken(token, "")) for token in _ids("lse")]
    assert "".join(one.text for one in later) == "</else"
    assert sum(len(one.tokens) for one in (*seen, *later)) == len(_ids("ok</e")) + len(_ids("lse"))


def test_a_half_character_at_the_end_is_not_shown():
    tokens = _ids("ok🙂")
    pieces, _, shown = _shown(tokens[:-1])
    assert "".join(pieces) == "ok" and shown == tokens[:-1]


def test_bytes_that_are_no_character_do_not_hold_the_text_back_for_ever():
    half = _ids("🙂")[0]
    pieces, _, _ = _shown([half] * 100)
    assert len("".join(pieces)) >= 80
    assert sum(len(piece) > 0 for piece in pieces) > 4


def test_special_tokens_are_not_shown():
    assert "".join(_shown([*_ids("cat"), 3, *_ids(" sat")])[0]) == "cat sat"


def test_the_cost_of_a_token_does_not_grow_with_the_text():
    sizes = []
    words = Words(tiny.tokenizer())
    decode = words.text
    words.text = lambda tokens: sizes.append(len(tokens)) or decode(tokens)
    wording = Wording(words, ["never"])
    for token in _ids("the cat sat on the mat é " * 60):
        wording.add(Taken(token, ""))
    assert len(sizes) > 500 and max(sizes) <= 8
