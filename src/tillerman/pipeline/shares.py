"""The items of each share of a run, and what its test items can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tillerman.core.errors import DataError
from tillerman.data.duplicates import Split, clean_split
from tillerman.data.examples import Example
from tillerman.data.loading import LoadedData
from tillerman.data.presenting import as_choices
from tillerman.data.splits import SPLITS
from tillerman.pipeline.experiment import Experiment
from tillerman.statistics.power import foreseen
from tillerman.statistics.values import Power


def split_items(experiment: Experiment, data: LoadedData, needed: Sequence[str] = SPLITS) -> Split:
    """The items of each share. ``DataError`` where one that is ``needed`` is empty."""
    e = experiment
    examples = as_choices(data.examples) if e.as_choice else data.examples
    most = (e.max_train, e.max_validation, e.max_test)
    split = clean_split(examples, shares=e.shares, seed=e.seed, sizes=most)
    _ensure_filled(split, data, needed, f"falls into the {{}} share of {len(examples)} items")
    return split


def without_long(
    split: Split,
    data: LoadedData,
    needed: Sequence[str],
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
) -> Split:
    """With the shares as they are left when items too long for the model are out. ``DataError`` where one that is
    ``needed`` is then empty."""
    kept = replace(split, train=tuple(train), validation=tuple(validation), test=tuple(test))
    left = sum(len(split.part(name)) - len(kept.part(name)) for name in SPLITS)
    _ensure_filled(kept, data, needed, "of the {} share is short enough for the model")
    return replace(kept, too_long=left)


def _ensure_filled(split: Split, data: LoadedData, needed: Sequence[str], what: str) -> None:
    for name in needed:
        if not split.part(name):
            raise DataError(f"{data.name}: no item {what.format(name)}; provide more data, or choose other `shares`")


def foresee(experiment: Experiment, data: LoadedData, comparisons: int = 1) -> Power:
    """The smallest effect that the test items of a run will show, before its model is asked anything; ``comparisons``:
    how many methods are compared.

    ``DataError`` where the test share is empty.
    """
    return foreseen(len(split_items(experiment, data, needed=("test",)).test), comparisons)
