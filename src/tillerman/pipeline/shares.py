"""The items of each share of a run, and what its test items can show."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.core.errors import DataError
from tillerman.data.duplicates import Split, clean_split
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
    for name in needed:
        if not split.part(name):
            raise DataError(
                f"{data.name}: no item falls into the {name} share of {len(examples)} items; "
                "provide more data, or choose other `shares`"
            )
    return split


def foresee(experiment: Experiment, data: LoadedData, comparisons: int = 1) -> Power:
    """The smallest effect that the test items of a run will show, before its model is asked anything; ``comparisons``:
    how many methods are compared.

    ``DataError`` where the test share is empty.
    """
    return foreseen(len(split_items(experiment, data, needed=("test",)).test), comparisons)
