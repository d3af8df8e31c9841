"""Who is moved the wrong way: the share of items whose right answer became less likely, by what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.data.presenting import Item
from tillerman.evaluation.answered import Answered
from tillerman.logs.evidence import MovedWrong
from tillerman.statistics import detection
from tillerman.statistics.estimates import holm, rate
from tillerman.statistics.values import Interval

if TYPE_CHECKING:
    from tillerman.evaluation.bias import AnswerClasses

LEAST = 5  # items of a value: fewer have no interval
MOST = 8  # values of a field: more are names, not kinds
RIGHT, UNSTEERED = "right answer", "unsteered"


def moved_wrong_by(
    items: Sequence[Item], classes: AnswerClasses, wrong: NDArray[np.bool_], right_before: NDArray[np.bool_]
) -> tuple[MovedWrong, ...]:
    """By right answer, by whether the unsteered model was right, and by every field of the data (``Example.extra``)
    that has from two to eight values, of those with at least five items."""
    fields: dict[str, list[str]] = {
        RIGHT: [classes.names[k] for k in classes.right.tolist()],
        UNSTEERED: ["right" if one else "wrong" for one in right_before],
    }
    for name in sorted({name for item in items for name in item.example.extra}):
        fields.setdefault(name, [str(item.example.extra.get(name, "")) for item in items])
    found: list[MovedWrong] = []
    known: set[tuple[int, ...]] = set()
    for name, values in fields.items():
        kinds, parted = sorted(set(values)), tuple(map(values.index, values))
        if not 2 <= len(kinds) <= MOST or parted in known:  # the same kinds by another name
            continue
        known.add(parted)
        for value in kinds:
            here = np.array([one == value for one in values])
            if LEAST <= here.sum() < len(items):
                table = np.array([[(wrong & side).sum(), (~wrong & side).sum()] for side in (here, ~here)])
                share = rate(wrong[here], [""] * int(here.sum()))
                p_value = float(stats.fisher_exact(table).pvalue)
                found.append(MovedWrong(name, value, share.value, share.interval, share.n, p_value))
    raised = holm([one.p_value for one in found]) if found else []
    return tuple(
        MovedWrong(one.field, one.value, one.share, one.interval, one.n, p)
        for one, p in zip(found, raised, strict=True)
    )


def share_interval(mask: NDArray[np.bool_]) -> Interval:
    """Wilson's, of the share of items for which the mask is true."""
    return rate(mask, [""] * len(mask)).interval


def item_slopes(classes: AnswerClasses, curve: Mapping[float, Answered]) -> NDArray[np.float64] | None:
    """The slope of each item's log-odds over the doses of a curve, NaN where an item has none ``[n]``; None where
    there is no curve."""
    doses = np.array(sorted(curve))
    if len(doses) < 2:
        return None
    rows = [detection.odds(classes.logs(curve[dose].scores), classes.right) for dose in doses.tolist()]
    return detection.slopes(doses, np.array(rows))
