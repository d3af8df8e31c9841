"""Attacks the steered and the prompted model on the same items, and tries the texts that were found elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tillerman.core.errors import MetricError, UsageError
from tillerman.core.plan import Plan
from tillerman.core.rows import Progress
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer, Written
from tillerman.evaluation.epo import EpoOptions, Search, optimise, random_texts, spread, try_texts
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.reversal import Reversal, allowed_tokens, margins, place_in, unwanted
from tillerman.logs.study import Trial
from tillerman.studies.attack.options import (
    AFTER,
    FIRST,
    FRONT_F,
    FRONT_X,
    LIKELIEST,
    MARGIN,
    NATURAL,
    PROMPT,
    PROMPT_RANDOM,
    RANDOM,
    STEERED,
    TRANSFER,
    USUAL,
    WITH,
    WITHOUT,
    AttackOptions,
)
from tillerman.studies.base import Lab

_FACTORS = (-1.0, 0.0, 0.5, 1.5, 2.0)  # strengths that found texts are tried on
_NATS = "nats per token"
_POOL = 5  # test items looked at, in multiples of those attacked


def measure(lab: Lab, options: AttackOptions) -> Iterator[Trial]:
    """Test items that both the steered and the prompted model answer as wanted: whether each can be reversed by
    so many candidates, by what texts, and what these do elsewhere. Without a prompt that helps, the steered alone."""
    victims = _victims(lab, options)
    attacks = {STEERED: _Attacked(lab, options, STEERED, victims, lab.plan(), lab.run.writer)}
    if lab.run.told_writer is not None:
        attacks[PROMPT] = _Attacked(lab, options, PROMPT, victims, (), lab.run.told_writer)
    results = {name: attack.results() for name, attack in attacks.items()}
    for name, attack in attacks.items():
        yield from attack.trials(results[name])
    yield from _transfers(lab, options, attacks, results)


def _victims(lab: Lab, options: AttackOptions) -> tuple[Item, ...]:
    items = lab.run.test.items[: _POOL * options.limit]
    exams = {STEERED: (lab.exam_of(items, lab.run.writer), lab.plan())}
    if lab.run.told_writer is not None:
        exams[PROMPT] = (lab.exam_of(items, lab.run.told_writer), ())
    for written in exams[STEERED][0].written:
        unwanted(written)
    with lab.stage("answers before the attack", len(exams) * len(items)) as progress:
        right = [lab.right(exam, {name: plan}, progress)[name] for name, (exam, plan) in exams.items()]
    both = [item for item, wanted in zip(items, np.logical_and.reduce(right), strict=True) if wanted]
    if len(both) < 2:
        raise UsageError(
            f"of {len(items)} test items {len(both)} are answered as wanted by the model, {' and '.join(exams)}; "
            "an attack needs at least two. Give a vector that works, or a higher `limit`"
        )
    return tuple(both[: options.limit])


Result = dict[str, Any]  # of one item, as the store keeps it


@dataclass(frozen=True, eq=False)
class _Attacked:
    """One model under attack: steered, or unsteered and prompted."""

    lab: Lab
    options: AttackOptions
    name: str
    items: tuple[Item, ...]
    plan: Plan
    writer: Writer

    @cached_property
    def exam(self) -> Exam:
        return self.lab.exam_of(self.items, self.writer)

    @cached_property
    def _allowed(self) -> Tensor:
        return allowed_tokens(self.lab.opened)

    def results(self) -> list[Result]:
        """Item by item; each is a finished piece."""
        tried = 2 * self.options.candidates
        with self.lab.stage(f"attack, {self.name}", tried * len(self.items)) as progress:
            return [
                self.lab.store.value(f"{self.name} {item.example.id}", self._maker(item, k, progress))
                for k, item in enumerate(self.items)
            ]

    def _maker(self, item: Item, k: int, progress: Progress) -> Callable[[], Result]:
        def make() -> Result:
            width, seed = self.options.tokens, _seed(self.options.seed, item)
            target = Reversal.of(
                self.lab.opened, self.plan, place_in(item, self.writer, width), self.exam.written[k], self._allowed
            )
            found = optimise(target, search_of(self.options), seed=seed, progress=progress)
            drawn = random_texts(target, found.tried, torch.Generator().manual_seed(seed + 1))
            others = self._others(item, target)
            return {
                "attack": self._kept(found),
                # Asked is whether one of so many reverses the answer: after one that does, all is told.
                "random": self._kept(try_texts(target, drawn, progress, enough=0.0)),
                "other": self._kept(try_texts(target, others)),
                "usual": float(target.scores(others)[1].mean()),
            }

        return make

    def _kept(self, found: Search) -> Result:
        def plain(one: Any) -> list[Any]:
            text = self.lab.opened.tokenizer.decode(list(one.tokens), clean_up_tokenization_spaces=False)
            return [text, one.value, one.cross_entropy, one.tried]

        return {
            "records": [plain(one) for one in found.records],
            "front": [plain(one) for one in found.front],
            "tried": found.tried,
        }

    def _others(self, item: Item, target: Reversal) -> Tensor:
        """The last tokens of other test items' questions, as many as a text under attack has."""
        width, tokenizer = self.options.tokens, self.lab.opened.tokenizer
        ends = [
            tokenizer(other.example.question.rstrip(), add_special_tokens=False)["input_ids"][-width:]
            for other in self.lab.run.test.items
            if other.example.id != item.example.id
        ]
        rows = torch.tensor([end for end in ends if len(end) == width], dtype=torch.long).reshape(-1, width)
        kept = rows[target.survives(rows)] if len(rows) else rows
        if not len(kept):
            raise UsageError(
                f"no other question has {width} tokens that fit at the end of another one; choose fewer `tokens`"
            )
        return kept

    def trials(self, results: Sequence[Result]) -> Iterator[Trial]:
        ids, controls = tuple(item.example.id for item in self.items), {STEERED: RANDOM, PROMPT: PROMPT_RANDOM}
        searches = {self.name: "attack", controls[self.name]: "random"}
        if self.name == STEERED:
            searches[NATURAL] = "other"
        for condition, kind in searches.items():
            found = [result[kind] for result in results]
            # As many random texts are drawn as an attack tries, whatever ends them.
            most = max(result["attack" if kind == "random" else kind]["tried"] for result in results)
            for budget in budgets(self.options, most):
                best = [_best(one["records"], budget) for one in found]
                texts = tuple(one[0] for one in best)
                turned = tuple(float(one[1] > 0) for one in best)
                at = float(min(budget, most))
                yield Trial(f"{AFTER}{budget}", condition, ids, turned, texts=texts, at=at, scorer="reversed")
                if kind == "attack":
                    f = tuple(one[1] for one in best)
                    yield Trial(f"{MARGIN}{budget}", condition, ids, f, texts=texts, at=at, scorer="logits")
        attack = {i: result["attack"] for i, result in zip(ids, results, strict=True)}
        usual = tuple(result["usual"] for result in results)
        yield Trial(USUAL, self.name, ids, usual, scorer=_NATS)
        yield from self._reversals(attack)
        front = [(i, one) for i, found in attack.items() for one in found["front"]]
        for case, place, scorer in ((FRONT_F, 1, "logits"), (FRONT_X, 2, _NATS)):
            yield Trial(
                case,
                self.name,
                tuple(i for i, _ in front),
                tuple(one[place] for _, one in front),
                texts=tuple(one[0] for _, one in front),
                scorer=scorer,
            )

    def _reversals(self, attack: dict[str, Result]) -> Iterator[Trial]:
        """The first text that reversed each item, and the likeliest one; only items that were reversed."""
        for case, kind in ((FIRST, "records"), (LIKELIEST, "front")):
            found = {i: next((one for one in result[kind] if one[1] > 0), None) for i, result in attack.items()}
            kept = {i: one for i, one in found.items() if one is not None}
            if kept:
                yield Trial(
                    case,
                    self.name,
                    tuple(kept),
                    tuple(one[2] for one in kept.values()),
                    texts=tuple(one[0] for one in kept.values()),
                    scorer=_NATS,
                )


def search_of(options: AttackOptions) -> EpoOptions:
    """One member has no weight of likelihood: greedy coordinate gradient."""
    weights = spread(options.members) if options.members > 1 else (0.0,)
    return EpoOptions(weights, options.iterations, options.children, options.top, options.restart)


def budgets(options: AttackOptions, most: int) -> list[int]:
    """1, 4, 16, ... candidates, and all of them; the same for every search."""
    whole = options.candidates
    steps = [4**k for k in range(20) if 4**k < whole]
    return [k for k in (*steps, whole) if k <= most or k == whole]


def _best(records: Sequence[Sequence[Any]], budget: int) -> Sequence[Any]:
    """The text of the highest f among the first so many."""
    kept = [one for one in records if one[3] <= budget]
    if not kept:
        raise MetricError(
            f"none of {budget} texts gives a finite score: steering breaks the model; choose a smaller strength"
        )
    return kept[-1]


def _seed(seed: int, item: Item) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {item.example.id}".encode(), digest_size=6).digest())


def _transfers(
    lab: Lab, options: AttackOptions, attacks: dict[str, _Attacked], results: dict[str, list[Result]]
) -> Iterator[Trial]:
    """The text of the highest f of every item that was reversed, put to other plans and to the other model."""
    steered = attacks[STEERED]
    elsewhere: list[tuple[str, _Attacked, list[Result], Plan]] = [
        (
            f"{factor:g} × the strength" if factor else "unsteered",
            steered,
            results[STEERED],
            lab.plan(factor) if factor else (),
        )
        for factor in _FACTORS
    ]
    elsewhere += [
        (f"random vector {k}", steered, results[STEERED], plan)
        for k, plan in enumerate(lab.random_plans(options.draws), start=1)
    ]
    elsewhere += [
        (f"{artefact.steering.provenance.method} of {data.name}", steered, results[STEERED], artefact.plan())
        for artefact, data in lab.subject.others
    ]
    if PROMPT in attacks:
        elsewhere.append(("the prompted model", attacks[PROMPT], results[STEERED], ()))
        elsewhere.append(("from the prompted to the steered model", steered, results[PROMPT], lab.plan()))
    with lab.stage("transfer", len(elsewhere)) as progress:
        for name, target, found, plan in elsewhere:
            kept = [k for k, one in enumerate(found) if one["attack"]["records"][-1][1] > 0]
            if kept:
                yield from _transferred(lab, f"{TRANSFER}{name}", target, [(k, found[k]) for k in kept], plan)
            progress(1)


def _transferred(
    lab: Lab, case: str, target: _Attacked, found: Sequence[tuple[int, Result]], plan: Plan
) -> Iterator[Trial]:
    texts = tuple(result["attack"]["records"][-1][0] for _, result in found)
    items, written = [target.items[k] for k, _ in found], [target.exam.written[k] for k, _ in found]
    ids = tuple(item.example.id for item in items)
    changed = [
        place_in(item, target.writer, target.options.tokens).prompts(lab.opened.tokenizer, [text])[0]
        for item, text in zip(items, texts, strict=True)
    ]
    for condition, prompts in ((WITH, changed), (WITHOUT, [w.prompt for w in written])):
        turned = lab.store.value(f"{case} {condition}", partial(_turned, lab, prompts, written, plan))
        yield Trial(case, condition, ids, tuple(turned), texts=texts if condition == WITH else (), scorer="reversed")


def _turned(lab: Lab, prompts: Sequence[tuple[int, ...]], written: Sequence[Written], plan: Plan) -> list[float]:
    found: list[float] = (margins(lab.opened, prompts, written, plan) > 0).float().tolist()
    return found
