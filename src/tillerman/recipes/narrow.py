"""A recipe cut down to what some of its claims are tested on: on a large model the whole protocol is days of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tillerman.core.errors import UnknownNameError
from tillerman.recipes.layouts import Where
from tillerman.recipes.recipe import At, Depths, Recipe, Step

_COSTS = ("perplexity_ratio", "kl", "unrelated_effect")
_BESIDE = ("prompt_effect", "icl_effect", "null_random", "null_shuffled")  # what a fast fit leaves out
_FEW_ITEMS = 8  # of the unrelated task, where no claim is about it; what a fast fit takes


def narrowed(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The steps, tasks, arms, layers and strengths that the claims of these names need, and no more of them; tables
    and other claims left out. Every figure that is left is what the whole recipe gives.

    ``UnknownNameError`` for a claim that the recipe does not have."""
    claims = {claim.name: claim for claim in recipe.claims}
    for name in names:
        if name not in claims:
            raise UnknownNameError(f"claim of {recipe.name}", name, claims)
    wanted = [where for name in names for where in claims[name].tested()]
    of_step = {step.name: [where for where in wanted if where.step == step.name] for step in recipe.steps}
    steps = tuple(_narrowed(step, of_step[step.name]) for step in recipe.steps if of_step[step.name])
    return replace(recipe, steps=steps, tables=(), claims=tuple(claims[name] for name in names))


def _narrowed(step: Step, wanted: Sequence[Where]) -> Step:
    metrics = {metric for where in wanted for metric in (where.metric, where.ranked) if metric}
    arms = []
    for arm in step.arms:
        mine = [where for where in wanted if where.arm == arm.name]
        cells = [At(where.strength, where.layer) for where in mine if where.strength is not None]
        if mine:
            arms.append(replace(arm, at=tuple(dict.fromkeys(cells))))
    layers = {where.layer for where in wanted if where.layer is not None}
    depths = step.layers
    if depths is not None and layers:
        depths = Depths(depths.of, tuple(layer for layer in depths.at if layer in layers))
    return replace(
        step,
        arms=tuple(arms),
        tasks=tuple(dict.fromkeys(where.tasks for where in wanted)),
        layers=depths,
        drift=step.drift and not metrics.isdisjoint(_COSTS),
        settings={**step.settings, **_cheaper(step, metrics)},
    )


def _cheaper(step: Step, metrics: set[str]) -> Mapping[str, Any]:
    """What no claim looks at is not measured; what is chosen does not depend on it."""
    found: dict[str, Any] = {}
    if step.kind == "fit" and metrics.isdisjoint(_BESIDE):
        found |= {"fast": True, "shots": 0}
    if step.kind in ("fit", "curve") and "unrelated_effect" not in metrics:
        found["unrelated_items"] = 0 if step.kind == "curve" else _FEW_ITEMS
    return found
