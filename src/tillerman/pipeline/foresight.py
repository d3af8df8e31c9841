"""What a run will be able to show, before it begins: its split is made, its model is not asked anything."""

from __future__ import annotations

from tillerman.data.loading import LoadedData
from tillerman.pipeline.experiment import Experiment
from tillerman.pipeline.run import split_items
from tillerman.statistics.power import foreseen
from tillerman.statistics.values import Power


def foresee(experiment: Experiment, data: LoadedData, comparisons: int = 1) -> Power:
    """The smallest effect that the test items of this run will show; ``comparisons``: how many methods are held
    against each other.

    ``DataError`` where the test share is empty.
    """
    return foreseen(len(split_items(experiment, data, needed=("test",)).test), comparisons)
