"""The shipped classifier of sentiment: positive, neutral or negative, without a model or a network.

Multinomial logistic regression on hashed words, pairs of words and pieces of words (3 to 5 characters), trained on
GoEmotions by ``tools/sentiment/train.py``. A text is the set of its features, of length 1; weights are 8-bit, relative
to the neutral class. Temperature-calibrated on held-out data. It knows short English comments, not irony and not
other languages; ``card()`` says how often it errs.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tillerman.evaluation.scorers.base import ScoreRange, ScorerEntry
from tillerman.logs.base import build
from tillerman.statistics.scores import Value
from tillerman.statistics.values import Interval, Rate

CLASSES = ("negative", "neutral", "positive")
BUCKETS = 2**17
PIECES = (3, 4, 5)
_POLARITY = ScoreRange("P(positive) - P(negative)", -1.0, 1.0)
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[!?]|[^\w\s]{2,}|[\U0001F300-\U0001FAFF\u2600-\u27BF]")


@dataclass(frozen=True)
class ClassifierTrial:
    """The classifier on one labelled set that it was neither trained nor calibrated on.

    ``accuracy``: positive against negative by the sign of the score. ``contrast``: the mean score of positive texts
    minus that of negative ones; a change of the mean score divided by it estimates the change of the share of positive
    texts among such texts (Rogan & Gladen 1978). Brier score and expected calibration error (15 bins) are of
    P(positive | not neutral).
    """

    data_name: str
    accuracy: Rate
    auc: float
    auc_interval: Interval
    contrast: float
    contrast_interval: Interval
    brier: float
    calibration_error: float
    three_way: Rate | None  # with the neutral texts, where the set has them


@dataclass(frozen=True)
class ClassifierCard:
    """What the classifier was made of and how often it errs."""

    trained_on: str
    n_train: int
    temperature: float
    trials: tuple[ClassifierTrial, ...]


@dataclass(frozen=True)
class Sentiment:
    """``P(positive) - P(negative)`` in [-1, 1]; None for a text without a word."""

    name: str = "sentiment"
    scale: ScoreRange = _POLARITY

    @property
    def note(self) -> str:
        told = (
            f"{t.data_name} {100 * (1 - t.accuracy.value):.0f} % of {t.accuracy.n} "
            f"(positive and negative texts lie {t.contrast:.2f} apart)"
            for t in card().trials
        )
        return f"the classifier confuses positive and negative in {'; '.join(told)}"

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        del prompts
        known = [any(character.isalpha() for character in reply) for reply in replies]
        chances = probabilities([reply for reply, is_text in zip(replies, known, strict=True) if is_text])
        found = iter((chances[:, 2] - chances[:, 0]).tolist())
        return [next(found) if is_text else None for is_text in known]


def probabilities(texts: Sequence[str]) -> NDArray[np.float64]:
    """``[n, 3]``: negative, neutral, positive."""
    weights, bias = _weights()
    logits = np.zeros((len(texts), 3))
    for row, text in enumerate(texts):
        found = features(text)
        polar = bias + weights[found].sum(0) / max(1, len(found)) ** 0.5
        logits[row, 0], logits[row, 2] = polar
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))


def features(text: str) -> list[int]:
    """The buckets of a text's features, each once, in order."""
    return sorted({zlib.crc32(gram.encode()) % BUCKETS for gram in _grams(text)})


def _grams(text: str) -> Iterator[str]:
    words = _WORD.findall(text.casefold().replace("\u2019", "'"))
    for word in words:
        yield f"w {word}"
        edged = f"<{word}>"
        for size in PIECES:
            yield from ("c" + edged[i : i + size] for i in range(len(edged) - size + 1))
    yield from (f"b {first} {second}" for first, second in pairwise(words))


@cache
def card() -> ClassifierCard:
    values: dict[str, Any] = json.loads(_file("sentiment.json").read_text(encoding="utf-8"))
    return build(ClassifierCard, values)


@cache
def _weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights ``[buckets, 2]`` and bias ``[2]`` of negative and positive, over the temperature."""
    stored = load_file(_file("sentiment.safetensors"))
    return stored["weights"].astype(np.float32) * stored["scale"], stored["bias"]


def _file(name: str) -> Path:
    return Path(str(files(__package__).joinpath("files", name)))


SCORERS: Mapping[str, ScorerEntry] = {"sentiment": ScorerEntry(lambda _: Sentiment())}
