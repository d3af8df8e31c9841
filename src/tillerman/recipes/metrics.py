"""What a step measures, and how each figure is shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tillerman.core.registry import Registry
from tillerman.evaluation.figures import decimal


@dataclass(frozen=True)
class Metric:
    """``show`` writes a value; shares are in [0, 1] and are shown in per cent or percentage points."""

    words: str
    unit: str
    show: Callable[[float], str]


def _shown(scale: float, places: int, signed: bool, value: float) -> str:
    return "" if math.isnan(value) else decimal(scale * value, places, signed)


def _metric(words: str, unit: str, scale: float = 1, places: int = 2, signed: bool = False) -> Metric:
    return Metric(words, unit, partial(_shown, scale, places, signed))


METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "unsteered": _metric("right, unsteered", "%", 100, 1),
        "right": _metric("right", "%", 100, 1),
        "effect": _metric("change of right answers", "pp", 100, 1, True),
        "prompt_effect": _metric("change under the prompt alone", "pp", 100, 1, True),
        "icl_effect": _metric("change under exemplars alone", "pp", 100, 1, True),
        "null_random": _metric("change under random directions", "pp", 100, 1, True),
        "null_shuffled": _metric("change under vectors of shuffled labels", "pp", 100, 1, True),
        "unrelated_effect": _metric("change on MMLU", "pp", 100, 1, True),
        "id_effect": _metric("change as fitted", "pp", 100, 1, True),
        "ood_effect": _metric("change, asked in other ways", "pp", 100, 1, True),
        "free_effect": _metric("change in free replies", "pp", 100, 1, True),
        "other_effect": _metric("change of other behaviours", "pp", 100, 1, True),
        "reversed": _metric("answers that an attack reverses", "%", 100, 1),
        "reversed_random": _metric("answers that random texts reverse", "%", 100, 1),
        "reversed_prompted": _metric("answers of the prompted model that an attack reverses", "%", 100, 1),
        "nats_natural": _metric("cross-entropy of natural texts", "nats/token", 1, 1),
        "nats_attack": _metric("cross-entropy of the texts that reverse", "nats/token", 1, 1),
        "perplexity_ratio": _metric("perplexity, steered over unsteered", "×"),
        "kl": _metric("KL on neutral text", "nats/token", 1, 3),
        "dose": _metric("dose", "of the stream's norm"),
        "thought": _metric("length of the thought", "tokens", 1, 1),
        "thought_change": _metric("change of the thought's length", "tokens", 1, 1, True),
        "stripped": _metric("length without repeats", "tokens", 1, 1),
        "repetition": _metric("repeated runs", "%", 100, 1),
        "unfinished": _metric("replies that do not end", "%", 100, 1),
        "tv": _metric("total variation", "", 1, 3),
        "tv_before": _metric("total variation, unsteered", "", 1, 3),
        "tv_change": _metric("change of total variation", "", 1, 3, True),
        "tv_null_change": _metric("change of total variation under random directions", "", 1, 3, True),
        "tv_even_change": _metric("total variation beyond that of equal chances", "", 1, 3, True),
        "kl_people": _metric("KL(people, model)", "nats", 1, 3),
        "kl_people_before": _metric("KL(people, model), unsteered", "nats", 1, 3),
        "kl_people_change": _metric("change of KL(people, model)", "nats", 1, 3, True),
        "kl_people_null_change": _metric("change of KL under random directions", "nats", 1, 3, True),
        "kl_people_even_change": _metric("KL beyond that of equal chances", "nats", 1, 3, True),
    },
)
