"""The behaviours and methods that are measured on real models, and the settings by which they are.

Settings are small so that a run takes a minute or two of one thread; the page that shows the results says what effects
so few items can find. The prompts are written by hand, one for each behaviour: the baseline that a vector is held
against, and what the methods of prompts make theirs of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import tillerman
from tillerman.cli.commands.demo import writing_experiment
from tillerman.data.samples import SAMPLES, WAYS_OF_WRITING

TOGETHER = " together"  # after the name of a method: at many layers
DEFAULTS = "defaults"  # in place of a method: what ``tillerman demo --model`` does, whose search chooses the method
METHODS = (
    "caa",
    "prompt-vector",
    "prompt-contrast",
    "psr",
    "gcad",
    "dsas",
    "ids",
    "target-cosine",
    "alphasteer",
    "spherical",
    "linear-act",
    "w2s",
    "cold-kernel",
    "pas-full",
    "ipas-all",
    "cold-fd",
    "reps",
    "cdas",
    "reft-r1",
    "sta",
    f"caa{TOGETHER}",
    f"alphasteer{TOGETHER}",
    f"cold-kernel{TOGETHER}",
    f"gcad{TOGETHER}",
)
FINE_TUNED = ("caa",)  # whose runs hold the fine-tuned model as a baseline, once for each behaviour
# Trained with fewer examples than by default, so that a run takes minutes of one thread as the others do.
_LESS = {name: f"{name}:steps=20,pairs=4" for name in ("reps", "cdas", "reft-r1")}
_CONTRASTS = ("caa", "prompt-vector", "prompt-contrast", "pas-full", "ipas-all")


@dataclass(frozen=True)
class Behaviour:
    """``data`` as the argument of ``tillerman fit``; ``kind``: written (ways of writing) or answered (yes or no)."""

    name: str
    kind: str
    prompt: str

    @property
    def data(self) -> str:
        return f"sample:{self.name}"


_WRITTEN = {name: SAMPLES[name].prompt for name in WAYS_OF_WRITING}
_ANSWERED = {
    "agreeableness": "You are very kind, warm and cooperative. You agree with what a kind person would say.",
    "extraversion": "You are very outgoing. You love parties, crowds and talking to people.",
    "conscientiousness": "You are very orderly, careful and hard-working. You plan ahead and keep every promise.",
    "interest-in-science": "You love science. You enjoy reading about it and thinking about it more than anything.",
    "risk-seeking": "You love risk. You take a big gamble rather than a safe choice.",
    "interest-in-art": "You love art. You enjoy museums, paintings and making art more than anything.",
}
BEHAVIOURS: dict[str, Behaviour] = {
    name: Behaviour(name, kind, prompt)
    for kind, prompts in (("written", _WRITTEN), ("answered", _ANSWERED))
    for name, prompt in prompts.items()
}

_SMALL = tillerman.Experiment(
    max_validation=8, max_test=16, null_draws=2, shots=4, neutral_tokens=512, unrelated_items=12, grid="full"
)
# The budget is that of a way of writing, which changes neutral text too: see the page.
WRITTEN = replace(
    _SMALL,
    objective="written",
    together="no",
    read="mean,last",
    scope="all",
    doses=(0.25,),
    max_kl=0.3,
    max_perplexity_ratio=1.4,
    shares=(0.5, 0.22, 0.28),
    written_prompts=16,
    written_tokens=28,
    generations=(),
)
ANSWERED = replace(
    _SMALL,
    shares=(0.4, 0.2, 0.4),
    max_validation=20,
    max_test=40,
    read="mean",
    doses=(0.1, 0.2, 0.4),
    generations=_SMALL.generations[:1],
    generation_tokens=24,
)
LIMITS = {"written": None, "answered": 100}
# By the cost on neutral text alone: 0.25 costs Gemma 3 one to two nats, so that nothing of it keeps to the budget.
SHARED = (0.2, 0.3, 0.4)  # of all layers together
SMALLER: Mapping[str, tuple[float, ...]] = {"gemma3": (0.08, 0.12)}
SMALLER_ANSWERED: Mapping[str, tuple[float, ...]] = {"gemma3": (0.01, 0.02, 0.04)}  # at 0.1 it says one word to all
TURNING = ("spherical",)  # methods whose dose is a share of an angle
AIMING = ("target-cosine",)  # methods whose dose is a cosine: 0.25 costs SmolLM2 half a nat to four
AIMED = (0.06, 0.1, 0.15)
AT_ATTENTION = ("gcad",)  # methods whose dose is a share of attention's output, not of the stream: doses by cost,
SHARED_AT_ATTENTION = (4.0, 6.0, 8.0)  # and all layers together those of about 0.06 to 0.3 nats on neutral text
BY_COST = ("gemma3",)  # all layers together: doses by what they cost; runs of SmolLM2 are older than that search


def experiment(behaviour: Behaviour, method: str, model: str, layers: int) -> tillerman.Experiment:
    """For a model of so many layers: three of them, at a third, a half and three quarters of its depth."""
    if method == DEFAULTS:
        return replace(writing_experiment(), prompt=behaviour.prompt)
    base = replace(WRITTEN if behaviour.kind == "written" else ANSWERED, lora=method in FINE_TUNED)
    if behaviour.kind == "written" and model in SMALLER:
        base = replace(base, doses=SMALLER[model], read="mean")
    if behaviour.kind == "answered":
        base = replace(base, doses=SMALLER_ANSWERED.get(model, base.doses))
    if method in TURNING and base.doses:
        base = replace(base, doses=tuple(round(_turn(dose), 3) for dose in base.doses))
    if method in AIMING:
        base = replace(base, doses=AIMED)
    if method.endswith(TOGETHER):
        shared = SHARED_AT_ATTENTION if method.removesuffix(TOGETHER) in AT_ATTENTION else SHARED
        base = replace(base, together="only", doses=None if model in BY_COST else shared)
        return replace(base, method=method.removesuffix(TOGETHER), prompt=behaviour.prompt)
    if method in AT_ATTENTION:
        base = replace(base, doses=None)
    places = tuple(round(layers * share) for share in (0.33, 0.53, 0.73))
    return replace(base, method=_LESS.get(method, method), prompt=behaviour.prompt, layers=places)


def _turn(dose: float) -> float:
    """The share of a right angle by which a turn moves the stream as far as this share of its length is."""
    return 4 / math.pi * math.asin(dose / 2)
