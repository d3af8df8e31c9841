"""Vectors made of a prompt and no label: of the prompt alone, or of every question under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tillerman.core.errors import FitError
from tillerman.core.rows import ContrastSet
from tillerman.core.spec import option
from tillerman.data import pairings
from tillerman.data.writing import Written
from tillerman.methods.base import Context, Method
from tillerman.methods.contrast import EstimatedMethod


@dataclass(frozen=True)
class OfPrompts(Method):
    """What the methods share that read a prompt: whose text they take."""

    positive: str | None = option(None, "text that asks for the behaviour; the prompt baseline's if not given")
    negative: str = option("", "text that asks for its opposite; empty asks for nothing")

    def texts(self, context: Context) -> tuple[str, str]:
        wanted = context.prompt() if self.positive is None else self.positive
        if not wanted or wanted == self.negative:
            raise FitError(
                f"{self.name} makes a vector from a prompt, and none was given or found that helps on validation "
                f"items: give --prompt TEXT (and --method {self.name}:negative=TEXT for the opposite)"
            )
        return wanted, self.negative

    def answers(self, context: Context) -> list[UnderPrompts]:
        """Wanted answers that have the same tokens under both texts and without: of others, which the tokenizer joins
        to what stands before them, no token has a counterpart. ``FitError`` where fewer than two have."""
        if context.items[0].example.kind == "text":
            raise FitError(
                f"{self.name} asks questions under a prompt; labelled texts have none: use prompt-vector or caa"
            )
        writers = [context.writer.with_system(text) if text else context.writer for text in self.texts(context)]
        found = []
        for i, item in enumerate(context.items):
            plain = context.written[i]
            told, other = (writer.write(item) for writer in writers)
            answer = plain.answers[plain.right]
            if told.answers[item.right] == other.answers[item.right] == answer:
                found.append(UnderPrompts(i, told, other, plain, answer))
        if len(found) < 2:
            raise FitError(
                f"{self.name}: fewer than two answers have the same tokens with and without the prompt; use "
                "prompt-contrast"
            )
        return found


@dataclass(frozen=True, eq=False)
class UnderPrompts:
    """An item, by its place, under the wanted text, under the other one, and as it is steered, with its answer."""

    item: int
    told: Written
    other: Written
    plain: Written
    answer: tuple[int, ...]


@dataclass(frozen=True)
class PromptVector(OfPrompts, EstimatedMethod):
    """The prompt alone against an empty one, or against the opposite prompt; one pair."""

    name: ClassVar[str] = "prompt-vector"

    def pair(self, context: Context) -> ContrastSet:
        return pairings.prompt_vector(self.texts(context), context.sides_writer)


@dataclass(frozen=True)
class PromptContrast(OfPrompts, EstimatedMethod):
    """Every question under the prompt against the same question without it, or under the opposite prompt."""

    name: ClassVar[str] = "prompt-contrast"

    def pair(self, context: Context) -> ContrastSet:
        return pairings.prompt_contrast(context.items, self.texts(context), context.sides_writer)
