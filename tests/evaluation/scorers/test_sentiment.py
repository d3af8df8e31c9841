"""The shipped classifier: what it says, and that it errs as its card tells."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from tests.data.shared import shared_data

from tillerman.evaluation.scorers import sentiment as module
from tillerman.evaluation.scorers.sentiment import Sentiment, card, features, probabilities


def score(*texts):
    return Sentiment().score([""] * len(texts), texts)


def test_plain_feelings_are_told_apart():
    glad, sad, plain = score(
        "I love this, thank you so much!", "This is awful and makes me so sad.", "The bus stops here."
    )
    assert glad > 0.5 and sad < -0.5 and abs(plain) < 0.4


def test_a_text_without_a_word_has_no_sentiment():
    assert score("", "  ", "123 ?!") == [None, None, None]


def test_a_text_does_not_depend_on_its_neighbours():
    assert score("good day", "bad day") == [*score("good day"), *score("bad day")]


def test_probabilities_add_up_to_one():
    chances = probabilities(["so happy", "so angry", "a table"])
    assert chances.shape == (3, 3) and np.allclose(chances.sum(1), 1) and (chances > 0).all()


def test_features_are_the_same_on_every_machine():
    assert features("Good day") == sorted(set(features("good  DAY")))
    assert features("ab")[:3] == [2048, 12904, 49559]


def test_the_files_are_small_and_hold_no_pickle():
    files = sorted(path for path in module._file("sentiment.json").parent.iterdir() if path.name != "LICENSE")
    assert [path.name for path in files] == ["ATTRIBUTION.md", "sentiment.json", "sentiment.safetensors"]
    assert sum(path.stat().st_size for path in files) < 300_000


def test_the_note_tells_the_errors_of_both_kinds_of_text():
    note = Sentiment().note
    assert "GoEmotions, test 14 % of 3210" in note and "SST-2, sentences 36 % of 872" in note


@pytest.mark.parametrize("name", ["GoEmotions, test", "SST-2, sentences"])
def test_the_card_is_what_the_shipped_weights_do(name):
    trial = next(one for one in card().trials if one.data_name == name)
    if name.startswith("SST"):
        rows = [line.rsplit("\t", 1) for line in shared_data("sentiment/sst2/test.tsv").read_text().splitlines()[1:]]
        labelled = [(text, label == "1") for text, label in rows]
    else:
        labelled = list(_comments())
    values = score(*(text for text, _ in labelled))
    right = [(value or 0.0) > 0 for value in values]
    found = np.mean([guess == truth for guess, (_, truth) in zip(right, labelled, strict=True)])
    assert found == pytest.approx(trial.accuracy.value, abs=2 / trial.accuracy.n)  # texts without a letter
    assert len(labelled) == trial.accuracy.n
    assert trial.accuracy.interval.low < found < trial.accuracy.interval.high


def _comments():
    """Written down apart from the tool that trains: joy-like against anger-, fear- and sadness-like labels."""
    folder = shared_data("emotion/goemotions/original")
    names = (folder / "labels.txt").read_text().split()
    neither = {"confusion", "curiosity", "realization", "surprise", "neutral"}
    down = {
        "anger",
        "annoyance",
        "disappointment",
        "disapproval",
        "disgust",
        "embarrassment",
        "fear",
        "grief",
        "nervousness",
        "remorse",
        "sadness",
    }
    for line in (folder / "test.tsv").read_text().splitlines():
        text, labels, _ = line.split("\t")
        signs = {name in down for name in (names[int(i)] for i in labels.split(",")) if name not in neither}
        if len(signs) == 1:
            yield text, not signs.pop()


def test_no_comment_of_the_trials_was_trained_on():
    folder = shared_data("emotion/goemotions/original")
    train = gzip.decompress((folder / "train.tsv.gz").read_bytes()).decode().splitlines()
    trained = {line.split("\t")[2] for line in train}
    assert not trained & {line.split("\t")[2] for line in (folder / "test.tsv").read_text().splitlines()}
