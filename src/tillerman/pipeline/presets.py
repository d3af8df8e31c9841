"""Experiments by name: a paper's settings, a quick look, and the budget of an artefact's own fit."""

from __future__ import annotations

from dataclasses import replace

from tillerman.core.artefact import Artefact
from tillerman.logs.cards import evaluation_on
from tillerman.pipeline.experiment import Experiment

# PAS section 4.1: its grid of strengths, which has no 0, and its recommended layers are the user's.
PAS_STRENGTHS = (0.25, 0.5, 0.75, 1.0, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0, 22.0, 25.0, 28.0, 32.0)


def pas_paper(experiment: Experiment | None = None) -> Experiment:
    """PAS as published (arXiv 2509.22739, sections 3 and 4): read a block's input, add at its output,
    last position only, no chat template, its strengths without 0, ties to the deepest layer, iPAS strings without a
    cue.

    Everything else is taken from ``experiment``: the layers (the paper's are 8, 11, 13-17, 19, 22 and
    25 of 32), the seed, one method instead of all three (``auto`` becomes ``pas``). The option order
    is drawn per item even so; see docs/methods/pas-full.md."""
    base = experiment or Experiment()
    return replace(
        base,
        method="pas" if base.method == "auto" else base.method,
        template="none",
        read_site="resid_pre",
        site="resid_post",
        read="usual" if base.read == "auto" else base.read,
        grid="full",
        scope="last",
        strengths=PAS_STRENGTHS,
        zero=False,
        ties="deepest",
        max_kl=None if base.max_kl == "auto" else base.max_kl,
        max_perplexity_ratio=None if base.max_perplexity_ratio == "auto" else base.max_perplexity_ratio,
        cue=False,
    )


def quick(experiment: Experiment | None = None) -> Experiment:
    """The vector and one held-out check: neither nulls nor baselines, no texts, little neutral text and few unrelated
    items, one method (``caa`` for ``auto``) read the usual way. Its verdict says so, and is never ``good``."""
    base = experiment or Experiment()
    return replace(
        base,
        fast=True,
        method="caa" if base.method == "auto" else base.method,
        read="usual" if base.read == "auto" else base.read,
        shots=0,
        written_prompts=0,
        generations=(),
        neutral_tokens=min(base.neutral_tokens, 512),
        unrelated_items=min(base.unrelated_items, 8),
    )


def as_dear_as_fitted(experiment: Experiment, artefact: Artefact) -> Experiment:
    """With the limits that the artefact's own fit kept to, as its card says, where the experiment gives none."""
    fitted = None if artefact.card is None else evaluation_on(artefact.card)
    if fitted is None or (experiment.max_kl, experiment.max_perplexity_ratio) != ("auto", "auto"):
        return experiment
    kept = fitted.constraints
    return replace(experiment, max_kl=kept.get("kl"), max_perplexity_ratio=kept.get("perplexity_ratio"))
