"""Free texts at the chosen strength, for readers, and whether they still read like texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tillerman.core.artefact import Artefact
from tillerman.data.writing import Writer
from tillerman.evaluation.perplexity import perplexity_of
from tillerman.evaluation.scorers.texts import repetition
from tillerman.logs.evaluation import Generation
from tillerman.logs.evidence import Coherence
from tillerman.pipeline.held_out import gated
from tillerman.pipeline.run import Run
from tillerman.steering.generation import Sampling, continuations

TEXTS = (-1.0, 0.0, 1.0)  # strengths, in multiples of the chosen one


def example_texts(run: Run, chosen: Artefact) -> tuple[Generation, ...]:
    """The same prompts continued at several strengths with the same random numbers, in one batch."""
    e = run.experiment
    sampling = Sampling(e.generation_tokens, temperature=0.7, seed=e.seed, shared=True)
    factors = TEXTS if chosen.cell.strength else (0.0,)
    rows = [(_start(run.bare_writer, prompt), factor) for prompt in e.generations for factor in factors]
    with run.watch.stage("example texts", len(rows)) as progress:
        plans = [gated(chosen, factor) for _, factor in rows]
        said = continuations(run.opened, [start for start, _ in rows], plans, sampling) if rows else []
        progress(len(rows))
    strengths = [chosen.cell.strength * factor for factor in factors]
    texts = [said[at : at + len(factors)] for at in range(0, len(said), len(factors))]
    return tuple(
        Generation(prompt, tuple(zip(strengths, mine, strict=True)))
        for prompt, mine in zip(e.generations, texts, strict=True)
    )


def coherence(run: Run, chosen: Artefact, texts: Sequence[Generation]) -> Coherence | None:
    """Perplexity of the texts under the unsteered model, and repetition: at the chosen strength, and unsteered. None
    where there are no steered texts, or nothing was written."""
    if not chosen.cell.strength or not texts:
        return None
    said = [dict(one.continuations) for one in texts]
    plain, steered = ([one[strength] for one in said] for strength in (0.0, chosen.cell.strength))
    levels = [_perplexity(run, texts, side) for side in (plain, steered)]
    if None in levels:
        return None
    before, after = (level for level in levels if level is not None)
    return Coherence(len(texts), before, after, _repeated(plain), _repeated(steered))


def _start(writer: Writer, prompt: str) -> tuple[int, ...]:
    return writer.encode(writer.reply_text(prompt) if writer.template == "chat" else prompt)


def _perplexity(run: Run, asked: Sequence[Generation], texts: Sequence[str]) -> float | None:
    def tokens(text: str) -> tuple[int, ...]:
        return tuple(run.opened.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    starts = [_start(run.bare_writer, one.prompt) for one in asked]
    return perplexity_of(run.opened, list(zip(starts, map(tokens, texts), strict=True)))


def _repeated(texts: Sequence[str]) -> float:
    shares = [share for share in repetition().score([""] * len(texts), list(texts)) if share is not None]
    return float(np.mean(shares)) if shares else 0.0
