"""Who is asked which question under which prompts, and how the answers become pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.data.making.filters import WrittenPair, whole_sentences
from tillerman.data.making.prompts import PromptPair
from tillerman.evaluation.scorers.base import TextScorer, checked
from tillerman.pipeline.making.authors import Said, WritingRequest
from tillerman.pipeline.making.settings import Making


@dataclass(frozen=True)
class Answering:
    """Pair i is about question i, and again from the first one on when all were asked; the prompts take turns."""

    making: Making
    prompts: tuple[PromptPair, ...]
    questions: tuple[str, ...]

    def requests(self, start: int, count: int) -> list[WritingRequest]:
        """What is asked for so many pairs, those of one pair in a row."""
        return [one for i in range(start, start + count) for one in self._of_pair(i)]

    def pairs(self, start: int, count: int, said: Sequence[Said]) -> list[WrittenPair]:
        """Of the answers to these requests, in their order. What was cut off loses its half sentence."""
        texts = [one.text.strip() if one.finished else whole_sentences(one.text) for one in said]
        size, objective = self._size, self.making.objective
        groups = [texts[at : at + size] for at in range(0, count * size, size)]
        asked = [self._question(i) for i in range(start, start + count)]
        ends = [(one[0], one[-1]) for one in groups] if objective is None else best_and_worst(objective, asked, groups)
        told = [self._prompts_of(i) for i in range(start, start + count)]
        return [WrittenPair(q, *end, pair) for q, end, pair in zip(asked, ends, told, strict=True)]

    @property
    def _size(self) -> int:
        """Answers to one question."""
        return 2 if self.making.objective is None else self.making.best_of

    def _question(self, place: int) -> str:
        return self.questions[place % len(self.questions)]

    def _prompts_of(self, place: int) -> PromptPair | None:
        again = place // len(self.questions)
        return self.prompts[(place + again) % len(self.prompts)] if self.prompts else None

    def _of_pair(self, place: int) -> list[WritingRequest]:
        pair, size, again = self._prompts_of(place), self._size, place // len(self.questions)
        sides = (pair.positive, pair.negative) if pair else (None, None)
        # The first half on the wanted side; every answer has a number of its own.
        return [self._asked(place, sides[2 * k >= size], again * size + k) for k in range(size)]

    def _asked(self, place: int, prompt: str | None, number: int) -> WritingRequest:
        where, question = self.making.prompt_in, self._question(place)
        user = f"{prompt}\n\n{question}" if prompt and where != "system" else question
        system = prompt if where != "user" else None
        return WritingRequest(user, system, self.making.tokens, self.making.temperature, number)


def best_and_worst(
    objective: TextScorer, questions: Sequence[str], groups: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    """Of each question's answers the one that scores highest and the one that scores lowest; the first one twice where
    fewer than two have a score, which no filter lets pass."""
    asked = [question for question, group in zip(questions, groups, strict=True) for _ in group]
    texts = [text for group in groups for text in group]
    values = iter(checked(objective.name, objective.scale, objective.score(asked, texts)))
    found = []
    for group in groups:
        scored = [(value, text) for text, value in zip(group, values, strict=False) if value is not None]
        ranked = sorted(scored, key=lambda one: one[0])
        found.append((ranked[-1][1], ranked[0][1]) if len(ranked) > 1 else (group[0], group[0]))
    return found
