"""The scorer made of labels: it tells ways of writing apart, says how well, and refuses what is no way of writing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.evaluation.scorers.labels import AnswerPair, LabelScorer, calibrated, learn, validity
from tillerman.evaluation.scorers.registry import text_scorer
from tillerman.logs.evidence import WrittenScorer

_NOUNS = [
    "river",
    "stone",
    "apple",
    "garden",
    "kettle",
    "ladder",
    "window",
    "basket",
    "lantern",
    "mirror",
    "pepper",
    "saddle",
]
_VERBS = ["carry", "paint", "wash", "move", "fold", "mend", "lift", "sell", "open", "turn", "keep", "find"]
_PLACES = ["near the house", "in the morning", "with some care", "after lunch", "by the road", "under a tree"]


def plain(draw: random.Random, sentences: int = 3) -> str:
    """Ordinary sentences of random words."""
    return " ".join(
        f"You can {draw.choice(_VERBS)} the {draw.choice(_NOUNS)} {draw.choice(_PLACES)}." for _ in range(sentences)
    )


def pirate(text: str) -> str:
    return text.replace("You can", "Arr, ye be able to").replace("the ", "yer ").replace(".", ", matey.")


def of(kind: str, count: int, seed: int) -> list[AnswerPair]:
    """Pairs of answers that differ in one way only."""
    draw = random.Random(f"{kind} {seed}")
    made = []
    for _ in range(count):
        a, b = plain(draw), plain(draw)
        made.append(
            {
                "pirate": lambda a=a, b=b: AnswerPair(pirate(a), b),
                "capitals": lambda a=a, b=b: AnswerPair(a.upper(), b),
                "list": lambda a=a, b=b: AnswerPair("- " + a.replace(". ", ".\n- "), b),
                "chinese": lambda a=a, b=b: AnswerPair("".join(draw.choice("我你他在河边的石头") for _ in a[:40]), b),
                "nothing": lambda a=a, b=b: AnswerPair(a, b),
                "longer": lambda a=a: AnswerPair(f"{a} {plain(draw, 5)}", a),
                "shorter": lambda a=a: AnswerPair(a, f"{a} {plain(draw, 5)}"),
                "first word": lambda a=a, b=b: AnswerPair(f"Sure. {a}", f"Sorry. {b}"),
                "one word": lambda: AnswerPair("Yes", "No"),
            }[kind]()
        )
    return made


def trained(kind: str, own: tuple[str, ...] = ()) -> tuple[LabelScorer, WrittenScorer]:
    scorer = calibrated(learn(of(kind, 40, 0), own), of(kind, 15, 1))
    return scorer, validity(scorer, of(kind, 15, 2), 40)


@pytest.mark.parametrize("kind", ["pirate", "capitals", "list", "chinese"])
def test_a_way_of_writing_is_told_apart_on_answers_not_seen(kind: str) -> None:
    _, found = trained(kind)
    assert (found.refused, found.n) == ("", 15)
    assert found.auc > 0.95 and found.interval.low > 0.7


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nothing", "do not tell wanted from unwanted"),
        ("longer", "the length alone"),
        ("shorter", "the length alone"),
        ("first word", "the first word alone"),
        ("one word", "the first word alone"),
    ],
)
def test_what_is_no_way_of_writing_is_refused_by_name(kind: str, says: str) -> None:
    assert says in trained(kind)[1].refused


def test_a_first_word_beside_a_way_of_writing_is_no_reason_to_refuse() -> None:
    def both(count: int, seed: int) -> list[AnswerPair]:
        return [AnswerPair(f"Ahoy. {p.wanted}", f"Hello. {p.unwanted}") for p in of("pirate", count, seed)]

    assert validity(learn(both(40, 0)), both(15, 2), 40).refused == ""


@pytest.mark.parametrize(("learned", "tested"), [(9, 15), (40, 4)])
def test_too_few_answers_are_refused_with_their_number(learned: int, tested: int) -> None:
    found = validity(learn(of("pirate", learned, 0)), of("pirate", tested, 2), learned)
    assert found.refused.startswith(f"too few items: {learned} and {tested} items")


def test_a_reply_that_is_half_so_lies_between() -> None:
    scorer, _ = trained("pirate")
    text = plain(random.Random(9), 4)
    none, half, whole = scorer.score(
        [""] * 3, [text, pirate(text[: len(text) // 2]) + text[len(text) // 2 :], pirate(text)]
    )
    assert none is not None and half is not None and whole is not None
    assert none < 0.3 < half < whole and whole > 0.7


def test_what_the_model_writes_anyway_is_no_sign_of_the_behaviour() -> None:
    draw = random.Random(5)
    odd = [f"As a language model I think that {plain(draw, 1)}" for _ in range(30)]  # like neither side
    without, with_own = trained("pirate")[0], trained("pirate", tuple(odd[:20]))[0]
    before, after = (sum(filter(None, s.score([""] * 10, odd[20:]))) for s in (without, with_own))
    assert after < before


def test_nothing_written_is_nothing_to_measure_and_thoughts_are_not_read() -> None:
    scorer, _ = trained("pirate")
    empty, thought = scorer.score(["", ""], [" \n", f"<think>{pirate('You can do the work.')}</think>You can do it."])
    assert empty is None
    assert thought == scorer.score([""], ["You can do it."])[0]


def test_a_scorer_is_the_same_made_twice() -> None:
    replies = [pirate("You can do the work."), "No."]
    assert trained("pirate")[0].score(["", ""], replies) == trained("pirate")[0].score(["", ""], replies)


def _file(folder: Path, kind: str, count: int = 80) -> Path:
    rows = [
        {"prompt": f"{plain(random.Random(k), 1)} What then?", "chosen": p.wanted, "rejected": p.unwanted}
        for k, p in enumerate(of(kind, count, 0))
    ]
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_the_command_takes_a_scorer_from_a_data_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "pirate")
    scorer = text_scorer(f"labels:{path}")
    assert scorer.name == f"labels:{path}" and "AUC 1.00" in scorer.note and "other items of mine" in scorer.note
    wanted, unwanted = scorer.score(["", ""], [pirate("You can do the work."), "You can do the work."])
    assert wanted is not None and unwanted is not None and wanted > unwanted


@pytest.mark.parametrize(
    ("kind", "count", "says"), [("first word", 80, "the first word alone"), ("pirate", 12, "items")]
)
def test_a_data_file_that_gives_no_scorer_is_an_error_that_says_why(
    tmp_path: Path, kind: str, count: int, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        text_scorer(f"labels:{_file(tmp_path, kind, count)}")
