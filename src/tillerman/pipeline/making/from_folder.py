"""Data from texts that are there already: filtered, told apart, and written as labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tillerman.data.making.filters import Limits
from tillerman.data.making.texts import read_sides, sift_texts
from tillerman.data.splits import hash_fraction
from tillerman.data.texts import LabelledText
from tillerman.evaluation.scorers.base import TextScorer, checked
from tillerman.evaluation.scorers.labels import NAME, AnswerPair, learn
from tillerman.logs.making import NOTHING_KEPT, Dropped, MakingLog, Separation
from tillerman.pipeline.making.make import Made
from tillerman.pipeline.making.telling import FEWEST, FOLDS, Telling, measured


def make_of_texts(folder: Path, limits: Limits, scorer: TextScorer | None = None, description: str = "") -> Made:
    """Rows of the layout ``labelled-text``: 1 for the wanted side, 0 for the other."""
    texts, found = read_sides(folder), list[Telling]()

    def told_apart(left: Sequence[LabelledText]) -> tuple[bool, ...]:
        found.append(_tell(left, scorer))
        return found[0].told

    sifted = sift_texts(texts, limits, told_apart)
    (told,) = found
    sides = {one.label for one in sifted.kept}
    refused = told.blind or ("" if len(sides) == 2 else f"{NOTHING_KEPT} of {len(texts)} texts with two sides")
    log = MakingLog(
        description=description,
        source="texts",
        writer="",
        answered_by="",
        written=len(texts),
        kept=0 if refused else len(sifted.kept),
        asked_for=len(texts),
        dropped=tuple(_dropped(fault, n, sifted.examples[fault]) for fault, n in sifted.dropped.items()),
        separation=Separation(told.scorer, told.area, told.interval, told.n),
        refused=refused,
    )
    rows = [{"text": one.text, "label": int(one.label)} for one in sifted.kept]
    told_of = {"behaviour": description} if description else {}
    return Made(() if refused else tuple(row | told_of for row in rows), log)


def _tell(texts: Sequence[LabelledText], scorer: TextScorer | None) -> Telling:
    """A text is told apart where it lies on its own side: of a learned scorer's border, or of the middle between the
    two sides' medians of one that is given."""
    sides = np.array([one.label for one in texts], dtype=bool)
    if scorer is None:
        if min(sides.sum(), (~sides).sum()) < FEWEST:
            return Telling(NAME, (True,) * len(texts))
        return measured(NAME, _learned(texts, sides), sides)
    values = checked(scorer.name, scorer.scale, scorer.score([""] * len(texts), [one.text for one in texts]))
    scores = np.array([np.nan if value is None else value for value in values])
    if not all(np.isfinite(scores[side]).any() for side in (sides, ~sides)):
        return Telling(scorer.name, (False,) * len(texts))
    border = (np.nanmedian(scores[sides]) + np.nanmedian(scores[~sides])) / 2
    return measured(scorer.name, scores - border, sides)


def _learned(texts: Sequence[LabelledText], sides: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log-odds of each text by what the other folds teach."""
    fold = np.array([int(hash_fraction(f"fold {one.text}") * FOLDS) for one in texts])
    odds = np.zeros(len(texts))
    for k in range(FOLDS):
        here, rest = np.flatnonzero(fold == k).tolist(), fold != k
        wanted, others = ([texts[i].text for i in np.flatnonzero(rest & side).tolist()] for side in (sides, ~sides))
        count = min(len(wanted), len(others))
        if not here or not count:
            continue
        pairs = [AnswerPair(*pair) for pair in zip(wanted[:count], others[:count], strict=True)]
        odds[here] = learn(pairs, others[count:]).log_odds([texts[i].text for i in here])
    return odds


def _dropped(fault: str, count: int, one: LabelledText) -> Dropped:
    return Dropped(fault, count, "", one.text if one.label else "", "" if one.label else one.text)
