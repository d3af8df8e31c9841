"""What steering adds to the time of a token."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

from tillerman.core.plan import Plan
from tillerman.models.opened import OpenModel
from tillerman.statistics.estimates import t_interval
from tillerman.statistics.values import Interval
from tillerman.steering.generation import Sampling, continuation
from tillerman.steering.steer import steer


def time_ratio(
    opened: OpenModel, prompt: tuple[int, ...], plan: Plan, tokens: int = 32, pairs: int = 6
) -> tuple[float, Interval]:
    """Time of a steered ``generate`` over that of an unsteered one of the same length, batch 1.

    The two take turns, so that a busy machine troubles both; the mean and 95 % t-interval are of the logarithms of
    ``pairs`` ratios. On a CPU it is the process's time, not the clock's. An empty plan is the unsteered pass: 1.
    """
    if not plan:
        return 1.0, Interval(1.0, 1.0)
    clock = time.process_time if opened.device.type == "cpu" else time.perf_counter
    sampling = Sampling(tokens, min_new_tokens=tokens)

    def took(what: Plan) -> float:
        with steer(opened.model, what) if what else nullcontext():
            started = clock()
            continuation(opened, prompt, (), sampling)
            return clock() - started

    took(plan), took(())  # what only the first pass pays
    mean, interval, _ = t_interval([math.log(_ratio(took, plan, turned=bool(k % 2))) for k in range(pairs)])
    return math.exp(mean), Interval(math.exp(interval.low), math.exp(interval.high))


def _ratio(took: Callable[[Plan], float], plan: Plan, *, turned: bool) -> float:
    if turned:
        unsteered = took(())
        return took(plan) / unsteered
    return took(plan) / took(())
