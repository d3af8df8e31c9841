"""A scorer of replies made of the user's own labels: how much a text looks like the wanted answers.

Logistic regression on runs of words and of characters, each block a tf-idf vector of length 1, as scikit-learn has
them. It needs no judge and no network. What it reads may be a confound: ``validity`` says how well it tells wanted
from unwanted answers that it has not seen, and refuses one that goes by their length or first word alone.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tillerman.core.errors import DataError
from tillerman.data.duplicates import clean_split
from tillerman.data.examples import Example
from tillerman.data.loading import load_examples
from tillerman.data.presenting import Item, open_form, present
from tillerman.data.thoughts import parted
from tillerman.evaluation.scorers.base import ScoreRange, ScorerEntry
from tillerman.logs.evidence import WrittenScorer
from tillerman.statistics.logistic import Calibration, Logistic, calibrate, fit_logistic
from tillerman.statistics.ranking import area, area_interval
from tillerman.statistics.scores import Value
from tillerman.statistics.values import Interval

NAME = "labels"
FEWEST_TRAIN, FEWEST_TEST = 10, 5  # pairs of answers
MOST = 400  # texts of a kind that are learned from; more cost time and tell little
LEAST_AREA = 0.75
PIECES = (2, 3, 4)  # characters
_CHANCE = ScoreRange("P(wanted)", 0.0, 1.0, "more")
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_BLANKS = re.compile(r"[^\S\n]+")


@dataclass(frozen=True)
class AnswerPair:
    """The wanted answer to one item and an unwanted one, as texts."""

    wanted: str
    unwanted: str


@dataclass(frozen=True, eq=False)
class _Block:
    """Features of one kind: their columns and weights ``ln((1 + n) / (1 + texts with it)) + 1``."""

    columns: Mapping[str, int]
    rarity: NDArray[np.float64]

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> _Block:
        """Of the features that two texts have at least."""
        counts = Counter(feature for text in texts for feature in dict.fromkeys(text))
        kept = sorted(feature for feature, count in counts.items() if count > 1)
        rarity = [math.log((1 + len(texts)) / (1 + counts[feature])) + 1 for feature in kept]
        return cls({feature: i for i, feature in enumerate(kept)}, np.array(rarity, dtype=np.float64))

    def rows(self, texts: Sequence[Sequence[str]]) -> sparse.csr_array:
        """``[texts, features]``: which are there, by rarity, each row of length 1 (of a text that has none, 0)."""
        found = [sorted({self.columns[f] for f in text if f in self.columns}) for text in texts]
        indices = np.array([column for row in found for column in row], dtype=np.int32)
        ends = np.cumsum([0, *map(len, found)])
        values = self.rarity[indices]
        lengths = [float(np.linalg.norm(values[a:b])) or 1.0 for a, b in itertools.pairwise(ends)]
        values = values / np.repeat(lengths, np.diff(ends))
        return sparse.csr_array((values, indices, ends), shape=(len(texts), len(self.columns)))


@dataclass(frozen=True, eq=False)
class LabelScorer:
    """``P(wanted)`` of a text, calibrated on answers that were not learned from; None for a text without a word."""

    words: _Block
    pieces: _Block
    model: Logistic
    calibration: Calibration = Calibration()  # noqa: RUF009 (a frozen value)
    note: str = ""
    name: str = NAME
    scale: ScoreRange = _CHANCE

    def score(self, prompts: Sequence[str], replies: Sequence[str]) -> list[Value]:
        del prompts
        said = [parted(reply)[1] for reply in replies]
        chances = self.calibration(self.log_odds(said)).tolist()
        return [one if _WORD.search(text) else None for one, text in zip(chances, said, strict=True)]

    def log_odds(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Before calibration."""
        if not texts:
            return np.zeros(0)
        blocks = (self.words.rows(list(map(_words, texts))), self.pieces.rows(list(map(_pieces, texts))))
        return self.model.log_odds(sparse.hstack(blocks, format="csr"))


def learn(pairs: Sequence[AnswerPair], own: Sequence[str] = ()) -> LabelScorer:
    """Of wanted answers against unwanted ones and, on the same side, the unsteered model's ``own`` replies: what it
    writes anyway is no sign of the behaviour. At most ``MOST`` of each."""
    pairs, own = pairs[:MOST], [text for text in own if _WORD.search(text)][:MOST]
    texts = [*(p.wanted for p in pairs), *(p.unwanted for p in pairs), *own]
    labels = np.arange(len(texts)) < len(pairs)
    words, pieces = list(map(_words, texts)), list(map(_pieces, texts))
    blocks = _Block.of(words), _Block.of(pieces)
    rows = sparse.hstack((blocks[0].rows(words), blocks[1].rows(pieces)), format="csr")
    return LabelScorer(*blocks, fit_logistic(rows, labels))


def calibrated(scorer: LabelScorer, pairs: Sequence[AnswerPair]) -> LabelScorer:
    """The scorer with its scale set on answers that it has not learned from."""
    texts = [*(p.wanted for p in pairs), *(p.unwanted for p in pairs)]
    return replace(scorer, calibration=calibrate(scorer.log_odds(texts), np.arange(len(texts)) < len(pairs)))


def validity(scorer: LabelScorer, pairs: Sequence[AnswerPair], learned: int) -> WrittenScorer:
    """Its area under the curve on answers that it has not seen, and why it is refused, if it is: too few answers, an
    area below ``LEAST_AREA`` or an interval that reaches 0.5, or one of which less than half is left above 0.5 where
    first words are taken away, or both answers are cut to the same number of words."""
    n = len(pairs)
    few = too_few(learned, n)
    if few is not None:
        return few
    found = _area(scorer, pairs)
    interval = area_interval(found, n, n)
    least = 0.5 + (found - 0.5) / 2
    why = ""
    if found < LEAST_AREA or interval.low <= 0.5:
        why = f"words and characters do not tell wanted from unwanted answers (AUC {found:.2f}, n = {n})"
    elif (bare := _area(scorer, [_map(pair, _without_first) for pair in pairs])) < least:
        why = f"it reads the first word alone (AUC {found:.2f}, without first words {bare:.2f})"
    elif (cut := _area(scorer, list(map(_level, pairs)))) < least:
        why = f"it reads the length alone (AUC {found:.2f}, {cut:.2f} between answers of equal length)"
    return WrittenScorer(NAME, found, interval, n, why)


def too_few(learned: int, tested: int) -> WrittenScorer | None:
    """The refusal of a scorer that has too few answers to learn from or to be tested on; None where there are
    enough."""
    if learned >= FEWEST_TRAIN and tested >= FEWEST_TEST:
        return None
    why = f"{learned} and {tested} items to learn from and to be tested on; at least {FEWEST_TRAIN} and {FEWEST_TEST}"
    return WrittenScorer(NAME, 0.5, Interval(0.0, 1.0), tested, f"too few items: {why} are needed")


def answer_pairs(items: Sequence[Item]) -> list[AnswerPair]:
    """Of items of several answers; lettered options by their texts."""
    return [pair_of(open_form(item)) for item in items]


def pair_of(item: Item) -> AnswerPair:
    """The wanted answer and the first of the others, in the order shown."""
    others = [text for k, text in enumerate(item.texts) if k != item.right]
    return AnswerPair(item.texts[item.right], others[0])


def of_data(source: str) -> LabelScorer:
    """Made of a data file's own items, in shares of 60, 20 and 20 %; ``DataError`` where it is refused."""
    loaded = load_examples(source)
    split = clean_split([example for example in loaded.examples if _has_texts(example)])
    train, validation, test = (answer_pairs(present(share)) for share in (split.train, split.validation, split.test))
    if len(train) < FEWEST_TRAIN:
        raise DataError(
            f"scorer 'labels': {loaded.name} has {len(train)} training items with wanted and unwanted texts"
        )
    scorer = calibrated(learn(train), validation)
    found = validity(scorer, test, len(train))
    if found.refused:
        raise DataError(f"scorer 'labels' of {loaded.name} is refused: {found.refused}; use another scorer, or a judge")
    low, high = found.interval.low, found.interval.high
    told = f"AUC {found.auc:.2f} ({low:.2f} to {high:.2f}) on the answers of {found.n} other items of {loaded.name}"
    return replace(scorer, note=told, name=f"{NAME}:{source}")


def _has_texts(example: Example) -> bool:
    return example.kind in ("preference", "text", "choice")


def _area(scorer: LabelScorer, pairs: Sequence[AnswerPair]) -> float:
    return area(scorer.log_odds([p.wanted for p in pairs]), scorer.log_odds([p.unwanted for p in pairs]))


def _map(pair: AnswerPair, change: Callable[[str], str]) -> AnswerPair:
    return AnswerPair(change(pair.wanted), change(pair.unwanted))


def _without_first(text: str) -> str:
    found = _WORD.search(text)
    return text if found is None else text[found.end() :]


def _level(pair: AnswerPair) -> AnswerPair:
    """Both cut to as many words as the shorter has."""
    count = min(len(_WORD.findall(pair.wanted)), len(_WORD.findall(pair.unwanted)))
    return AnswerPair(_first(pair.wanted, count), _first(pair.unwanted, count))


def _first(text: str, count: int) -> str:
    ends = [found.end() for found in _WORD.finditer(text)][:count]
    return text[: ends[-1]] if ends else ""


def _words(text: str) -> list[str]:
    """Words and pairs of words, in lower case."""
    said = _WORD.findall(text.casefold())
    return [*said, *(f"{a} {b}" for a, b in itertools.pairwise(said))]


def _pieces(text: str) -> list[str]:
    """Runs of characters, as they are written: capitals, marks and lists are ways of writing too."""
    flat = " " + _BLANKS.sub(" ", text.strip()) + " "
    return [flat[i : i + size] for size in PIECES for i in range(len(flat) - size + 1)]


SCORERS: Mapping[str, ScorerEntry] = {NAME: ScorerEntry(of_data, "a data file with wanted and unwanted answers")}
