"""What the pilot can do, on items and personas it never saw: the thresholds of docs/pilot.md."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from corpus import Corpus, Trait, Turn, held_out_trait, question_turn
from encoding import Encoder
from torch import nn


@dataclass(frozen=True)
class Probe:
    """One question at the end of a dialogue, with the tokens of all options; ``right`` is the state's answer."""

    tokens: list[int]
    options: tuple[int, ...]
    right: int
    yes_no: bool


def probe(encoder: Encoder, system: str | None, before: Sequence[Turn], turn: Turn, choices: Sequence[str]) -> Probe:
    tokens = encoder.dialogue(system, before) + encoder.question(turn.user)
    options = tuple(encoder.text(choice)[0] for choice in choices)
    return Probe(tokens, options, choices.index(turn.assistant), choices[0] == "Yes")


def probes(
    encoder: Encoder, trait: Trait, pole: int, n: int, *, prompted: bool, letters: bool, shots: int, seed: int
) -> list[Probe]:
    rng = random.Random(f"{trait.name} {pole} {n} {prompted} {letters} {shots} {seed}")
    out = []
    for _ in range(n):
        questions = rng.sample(trait.questions, shots + 1)
        turns = [question_turn(question, pole, rng, letters) for question in questions]
        as_letter = letters or not questions[-1].yes_no
        choices = "ABC"[: len(questions[-1].options)] if as_letter else ("Yes", "No")
        system = trait.prompts[pole][0] if prompted else None
        out.append(probe(encoder, system, turns[:-1], turns[-1], tuple(choices)))
    return out


@torch.inference_mode()
def choices_made(model: nn.Module, items: Sequence[Probe], batch: int = 32) -> list[int]:
    order = sorted(range(len(items)), key=lambda i: len(items[i].tokens))
    made = [0] * len(items)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        longest = max(len(items[i].tokens) for i in rows)
        tokens = torch.tensor([items[i].tokens + [0] * (longest - len(items[i].tokens)) for i in rows])
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state  # right padding: causal, so harmless
        last = hidden[torch.arange(len(rows)), torch.tensor([len(items[i].tokens) - 1 for i in rows])]
        logits = model.lm_head(last)
        for row, i in enumerate(rows):
            made[i] = int(logits[row, list(items[i].options)].argmax())
    return made


def share(values: Sequence[bool]) -> float:
    return sum(values) / max(1, len(values))


def agreement(
    model: nn.Module, encoder: Encoder, traits: Sequence[Trait], n: int, *, prompted: bool, letters: bool, shots: int
) -> float:
    """Share of questions answered as the state asks, both poles, mean over traits."""
    items = [
        p
        for t in traits
        for pole in (0, 1)
        for p in probes(encoder, t, pole, n, prompted=prompted, letters=letters, shots=shots, seed=0)
    ]
    return share([made == item.right for made, item in zip(choices_made(model, items), items, strict=True)])


def first_option_rate(model: nn.Module, encoder: Encoder, traits: Sequence[Trait], n: int, *, letters: bool) -> float:
    items = [p for t in traits for p in probes(encoder, t, 0, n, prompted=False, letters=letters, shots=0, seed=1)]
    return share([made == 0 for made in choices_made(model, items)])


def measure(model: nn.Module, encoder: Encoder, corpus: Corpus, data: Path, n: int = 8) -> dict[str, float]:
    """The threshold figures. ``corpus`` is the held-out fifth."""
    new = [held_out_trait(data, name) for name in corpus.held_out_personas]
    bbq = [t for t in corpus.judges if t.family == "bbq"]
    ethics = [t for t in corpus.judges if t.family == "ethics"]
    f = agreement
    return {
        "prompted yes/no": f(model, encoder, corpus.personas, n, prompted=True, letters=False, shots=0),
        "prompted A/B": f(model, encoder, corpus.personas, n, prompted=True, letters=True, shots=0),
        "fourth of dialogue": f(model, encoder, corpus.personas, n, prompted=False, letters=False, shots=3),
        "fourth of dialogue A/B": f(model, encoder, corpus.personas, n, prompted=False, letters=True, shots=3),
        "new personas prompted": f(model, encoder, new, 2 * n, prompted=True, letters=False, shots=0),
        "new personas fourth": f(model, encoder, new, 2 * n, prompted=False, letters=False, shots=3),
        "yes-rate unprompted": first_option_rate(model, encoder, corpus.personas, n, letters=False),
        "A-rate unprompted": first_option_rate(model, encoder, corpus.personas, n, letters=True),
        "bbq prompted": f(model, encoder, bbq, 4 * n, prompted=True, letters=True, shots=0),
        "bbq third": f(model, encoder, bbq, 4 * n, prompted=False, letters=True, shots=2),
        "ethics prompted": f(model, encoder, ethics, 8 * n, prompted=True, letters=False, shots=0),
        "ethics fourth": f(model, encoder, ethics, 8 * n, prompted=False, letters=False, shots=3),
    }


def log_line(step: int, seconds: float, figures: dict[str, float]) -> str:
    return json.dumps({"step": step, "seconds": round(seconds), **{k: round(v, 4) for k, v in figures.items()}})
