"""CDAS: a direction trained so that exchanging the activations' component along it, between a question under a prompt
and the same question without, exchanges what the model predicts (Bao et al., arXiv 2602.05234)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tillerman.core.errors import FitError
from tillerman.core.spec import option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.pairings import another
from tillerman.methods.base import Context
from tillerman.methods.prompts import OfPrompts
from tillerman.methods.trained import Trained, stream_norms
from tillerman.models.objectives import Counterfactual, Exchange, gaps
from tillerman.models.training import train_vectors
from tillerman.reports.numbers import decimal


@dataclass(frozen=True)
class Cdas(OfPrompts, Trained):
    """``v = u (u . gap)``: u is trained, gap is what the prompt adds to the activations at the tokens that predict the
    wanted answers, in the mean. Strength 1 adds what the prompt adds along u."""

    name: ClassVar[str] = "cdas"
    pairs: int = option(8, "examples in each step", least=1)
    start: str = option(
        "difference", "where the direction begins: what the prompt adds, or random", choices=("difference", "random")
    )

    def fit(self, context: Context) -> SteeringVector:
        examples = self._examples(context)
        norms = stream_norms(context, [one.plain for one in examples])
        gap = gaps(context.opened, examples, list(norms), self.pairs)
        objective = Exchange(examples, gap if self.start == "difference" else {})
        found = train_vectors(
            context.opened, objective, norms, self.training, seed=context.seed, progress=context.progress
        )
        apart = objective.divergences(context.opened, found, self.pairs)
        units = {point: vector / vector.norm() for point, vector in found.items()}
        told = [[str(p), round(before, 5), round(after, 5)] for p, (before, after) in apart.items()]
        return SteeringVector(
            {point: unit * (unit @ gap[point]) for point, unit in units.items()},
            norms,
            replace(context.provenance, found={"divergences": told}),
        )

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        shares = "; ".join(
            f"{p} {decimal(before, 3)}, {decimal(after, 3)}" for p, before, after in found["divergences"]
        )
        return (
            "divergence of the predictions with and without the prompt, in nats per token of the answers, plain and "
            f"with the component along the direction exchanged (training items): {shares}",
        )

    def _examples(self, context: Context) -> list[Counterfactual]:
        if context.items[0].example.kind == "text":
            raise FitError("cdas asks questions under a prompt; labelled texts have none: use prompt-vector or caa")
        wanted, other = self.texts(context)
        with_it = context.writer.with_system(wanted)
        without = context.writer.with_system(other) if other else context.writer
        made = []
        for item, sign in zip(context.items, _signs(context), strict=True):
            told, plain = with_it.write(item), without.write(item)
            if told.answers == plain.answers:  # else the tokenizer joins an answer to what stands before it
                answers = plain.answers
                made.append(
                    Counterfactual(plain.prompt, told.prompt, answers[item.right], answers[another(item)], sign)
                )
        if not made:
            raise FitError("cdas: no answer has the same tokens with and without the prompt; use prompt-contrast")
        return made


def _signs(context: Context) -> list[float]:
    """For the null a coin for each item: what is exchanged is turned round."""
    if context.dealt is None:
        return [1.0] * len(context.items)
    draw = random.Random(context.dealt)
    return [draw.choice((-1.0, 1.0)) for _ in context.items]
