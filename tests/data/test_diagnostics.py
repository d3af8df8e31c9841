"""Diagnostics: each shortcut is found where it was planted, and not where there is none."""

from __future__ import annotations

import random

import pytest

from tillerman.core.finding import Finding
from tillerman.data.diagnostics import diagnose
from tillerman.data.duplicates import Split, clean_split
from tillerman.data.examples import Example
from tillerman.data.presenting import present

WORDS = [f"word{i}" for i in range(300)]


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def choices(count: int = 400, options: int = 4, seed: int = 0) -> list[Example]:
    """Multiple choice without any shortcut."""
    rng = random.Random(seed)
    return [
        Example("choice", words(rng, 12), tuple(words(rng, 6) for _ in range(options)), rng.randrange(options))
        for _ in range(count)
    ]


def yes_no(count: int = 400, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    return [
        Example("yes_no", f"Would you say:\n{words(rng, 12)}", ("Yes", "No"), rng.randrange(2)) for _ in range(count)
    ]


def with_options(examples: list[Example], change: dict[bool, str]) -> list[Example]:
    """Each option written anew: the right one as ``change[True]`` says, the others as ``change[False]``."""
    return [
        Example(e.kind, e.question, tuple(change[i == e.answer].format(o) for i, o in enumerate(e.options)), e.answer)
        for e in examples
    ]


def found(examples: list[Example], orders: list[int] | None = None) -> dict[str, Finding]:
    return {f.check: f for f in diagnose(examples, clean_split(examples), orders=orders)}


def sycophancy(count: int = 300) -> list[Example]:
    """Like the sycophancy sets: the right answer stands first in every row."""
    rng = random.Random(3)
    return [
        Example("choice", f"I am Jane and I like {words(rng, 9)}. Do you agree?", (words(rng, 5), words(rng, 5)), 0)
        for _ in range(count)
    ]


def shown_with_one_seed(examples: list[Example], seed: int) -> list[int]:
    """The fault of PAS: every question's options are shuffled by a generator of the same seed."""
    positions = []
    for example in examples:
        order = list(range(len(example.options)))
        random.Random(seed).shuffle(order)
        positions.append(order.index(example.answer))
    return positions


@pytest.mark.parametrize("seed", range(1, 6))
def test_one_shuffle_for_all_questions_is_an_error(seed: int) -> None:
    examples = sycophancy()
    finding = found(examples, shown_with_one_seed(examples, seed))["constant-letter"]
    assert finding.level == "error"
    assert finding.value == 1.0
    assert "a vector for 'answer" in finding.message


def test_the_order_that_we_show_is_no_constant_letter() -> None:
    examples = sycophancy()
    findings = found(examples, [shown.right for shown in present(examples)])
    assert findings["constant-letter"].level == "ok"
    assert findings["position"].level == "note"
    assert found(examples)["position"].level == "warning"


def test_a_mostly_constant_letter_is_a_warning() -> None:
    examples = choices(options=2)
    orders = [0] * 280 + [1] * 120
    assert found(examples, orders)["constant-letter"].level == "warning"


def test_clean_data_give_no_warning() -> None:
    for examples in (choices(), yes_no(), choices(options=2)):
        findings = found(examples, [e.answer for e in examples] if examples[0].kind == "choice" else None)
        assert {f.level for f in findings.values() if f.check != "size"} == {"ok"}, findings


PLANTED = {
    "longest-option": with_options(choices(), {True: "{} and some more words", False: "{}"}),
    "shortest-option": with_options(choices(), {True: "{}", False: "{} and some more words"}),
    "first-word": with_options(choices(), {True: "Surely {}", False: "Hardly {}"}),
    "position": [Example("choice", e.question, e.options, 2 if i % 3 else 0) for i, e in enumerate(choices())],
    "label-balance": [Example("yes_no", e.question, e.options, int(i % 5 == 0)) for i, e in enumerate(yes_no())],
    "length": [
        Example("yes_no", e.question + (" and so on" * 3 if e.answer else ""), e.options, e.answer) for e in yes_no()
    ],
    "template": [Example("yes_no", f"[INST] {e.question} [/INST]", e.options, e.answer) for e in yes_no()],
    "duplicates": yes_no() + yes_no()[:40],
    "contradictions": yes_no() + [Example("yes_no", e.question, e.options, 1 - e.answer) for e in yes_no()[:3]],
    "size": yes_no(30),
}


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found(check: str) -> None:
    finding = found(PLANTED[check])[check]
    assert finding.level == "warning", finding


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_raises_no_other_alarm(check: str) -> None:
    related = {"longest-option": "shortest-option", "contradictions": "duplicates"}
    others = {f.check for f in found(PLANTED[check]).values() if f.level in ("warning", "error")}
    assert others - {check, related.get(check)} == set()


def test_a_small_effect_in_much_data_is_no_alarm() -> None:
    examples = [Example("yes_no", e.question, e.options, int(i % 20 < 9)) for i, e in enumerate(yes_no(3000))]
    assert found(examples)["label-balance"].level == "ok"


def test_the_first_word_of_a_question_is_judged_after_what_all_share() -> None:
    examples = [
        Example(
            "yes_no", e.question.replace("say:\n", "say:\nNever " if e.answer else "say:\nAlways "), e.options, e.answer
        )
        for e in yes_no()
    ]
    assert found(examples)["first-word"].level == "warning"


@pytest.mark.parametrize("markup", ["<|user|>", "<s>", "[INST]", "<start_of_turn>", "Human:", "### Instruction:"])
def test_chat_markup_is_found(markup: str) -> None:
    examples = yes_no()
    examples[5] = Example("yes_no", f"{markup} {examples[5].question}", ("Yes", "No"), 0)
    assert markup in found(examples)["template"].message


def test_a_leak_between_the_shares_is_an_error() -> None:
    examples = yes_no()
    leaking = Split(
        train=tuple(examples[:100]), validation=tuple(examples[100:150]), test=tuple(examples[90:]), dropped=0
    )
    finding = next(f for f in diagnose(examples, leaking) if f.check == "leakage")
    assert (finding.level, finding.value) == ("error", 60.0)


def test_a_near_duplicate_between_the_shares_is_an_error() -> None:
    long = words(random.Random(9), 40)
    one, other = (Example("yes_no", text, ("Yes", "No"), 0) for text in (long, f"{long} indeed"))
    finding = next(f for f in diagnose([one, other], Split((one,), (), (other,), 0)) if f.check == "leakage")
    assert (finding.level, finding.value) == ("error", 1.0)


def test_preferences_have_no_position_to_judge() -> None:
    rng = random.Random(0)
    examples = [Example("preference", words(rng, 9), (words(rng, 8), words(rng, 8)), 0) for _ in range(200)]
    assert {f.check for f in diagnose(examples, clean_split(examples))} == {
        "size",
        "longest-option",
        "shortest-option",
        "first-word",
        "duplicates",
        "leakage",
        "template",
    }


def test_no_examples_are_one_error() -> None:
    assert [f.level for f in diagnose([], Split((), (), (), 0))] == ["error"]


def test_duplicates_are_counted_in_the_singular_and_the_plural():
    items = yes_no()
    assert found([*items, items[0]])["duplicates"].message == "1 exact duplicate, 0 pairs of near-duplicates"
    assert found([*items, *items[:2]])["duplicates"].message == "2 exact duplicates, 0 pairs of near-duplicates"
