"""What a step measures, and how each figure is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tillerman.core.registry import Registry
from tillerman.reports.numbers import decimal


@dataclass(frozen=True)
class Metric:
    """How a value is shown: ``scale`` times it, with so many ``places``; shares are in [0, 1] and are shown in per
    cent or percentage points. ``log``: a ratio, whose means and differences are taken of its logarithm."""

    words: str
    unit: str
    scale: float = 1.0
    places: int = 2
    signed: bool = False
    log: bool = False

    def show(self, value: float) -> str:
        """Nothing for what is not a number: a figure that was not published."""
        return "" if math.isnan(value) else decimal(self.scale * value, self.places, self.signed)

    @property
    def is_share(self) -> bool:
        return self.unit in ("%", "pp")

    @property
    def difference(self) -> Metric:
        """Of two such values: signed, and of two percentages in points. Of two ratios it is their ratio."""
        return self if self.log else replace(self, signed=True, unit="pp" if self.unit == "%" else self.unit)


METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "unsteered": Metric("right, unsteered", "%", 100, 1),
        "right": Metric("right", "%", 100, 1),
        "effect": Metric("change of right answers", "pp", 100, 1, True),
        "prompt_effect": Metric("change under the prompt alone", "pp", 100, 1, True),
        "icl_effect": Metric("change under exemplars alone", "pp", 100, 1, True),
        "null_random": Metric("change under random directions", "pp", 100, 1, True),
        "null_shuffled": Metric("change under vectors of shuffled labels", "pp", 100, 1, True),
        "unrelated_effect": Metric("change on MMLU", "pp", 100, 1, True),
        "id_effect": Metric("change as fitted", "pp", 100, 1, True),
        "ood_effect": Metric("change on rephrased questions", "pp", 100, 1, True),
        "free_effect": Metric("change in free replies", "pp", 100, 1, True),
        "other_effect": Metric("change of other behaviours", "pp", 100, 1, True),
        "reversed": Metric("answers that an attack reverses", "%", 100, 1),
        "reversed_random": Metric("answers that random texts reverse", "%", 100, 1),
        "reversed_prompted": Metric("answers of the prompted model that an attack reverses", "%", 100, 1),
        "nats_natural": Metric("cross-entropy of natural texts", "nats/token", 1, 1),
        "nats_attack": Metric("cross-entropy of the texts that reverse", "nats/token", 1, 1),
        "perplexity_ratio": Metric("perplexity, steered over unsteered", "×", log=True),
        "kl": Metric("KL on neutral text", "nats/token", 1, 3),
        "dose": Metric("dose", "of the stream's norm"),
        "thought": Metric("length of the thought", "tokens", 1, 1),
        "thought_change": Metric("change of the thought's length", "tokens", 1, 1, True),
        "stripped": Metric("length without repeats", "tokens", 1, 1),
        "repetition": Metric("repeated runs", "%", 100, 1),
        "unfinished": Metric("replies that do not end", "%", 100, 1),
        "tv": Metric("total variation", "", 1, 3),
        "tv_before": Metric("total variation, unsteered", "", 1, 3),
        "tv_change": Metric("change of total variation", "", 1, 3, True),
        "tv_null_change": Metric("change of total variation under random directions", "", 1, 3, True),
        "tv_even_change": Metric("total variation beyond that of equal chances", "", 1, 3, True),
        "kl_people": Metric("KL(people, model)", "nats", 1, 3),
        "kl_people_before": Metric("KL(people, model), unsteered", "nats", 1, 3),
        "kl_people_change": Metric("change of KL(people, model)", "nats", 1, 3, True),
        "kl_people_null_change": Metric("change of KL under random directions", "nats", 1, 3, True),
        "slope": Metric("steerability: slope of the log-odds over the strength", "nats", 1, 3, True),
        "slope_prompted": Metric("steerability of questions after the prompt", "nats", 1, 3, True),
        "slope_opposed": Metric("steerability of questions after the opposite prompt", "nats", 1, 3, True),
        "slope_shifted": Metric("steerability, mean over both prompts", "nats", 1, 3, True),
        "anti": Metric("items steered the wrong way", "%", 100, 1),
        "anti_shifted": Metric("items steered the wrong way, mean over both prompts", "%", 100, 1),
        "spurious_letter": Metric("variance of the slopes explained by the right letter", "%", 100, 1),
        "spurious_word": Metric("further by the right word", "%", 100, 1),
        "spurious_beyond": Metric("explained by both beyond chance", "pp", 100, 1, True),
        "cosine": Metric("cosine of a pair's difference with the vector", "", 1, 3),
        "d_prime": Metric("d′ of the pairs along the vector", "", 1, 2),
        "rank_correlation": Metric("rank correlation over tasks", "ρ", 1, 2, True),
        "kl_people_even_change": Metric("KL beyond that of equal chances", "nats", 1, 3, True),
    },
)
