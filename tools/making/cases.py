"""The descriptions that ``make`` is tried on, and the settings: small ones, so that each takes a few minutes of one
thread."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tillerman.data.making.prompts import PromptPair, described_pairs
from tillerman.pipeline.making.settings import Making

BASE = Making(description="shown", items=40, write_prompts=0, write_questions=0, tokens=40, prompt_in="user")
PLAIN = "Answer the question plainly, in simple words."


@dataclass(frozen=True)
class Case:
    """``words``: what tells the model of the behaviour, where the description alone does not. ``asks``: the model is
    asked for prompts and questions too."""

    name: str
    description: str
    words: str = ""
    asks: bool = False

    @property
    def making(self) -> Making:
        if not self.words:
            asked = {"items": 60, "write_prompts": 3, "write_questions": 10} if self.asks else {}
            return replace(BASE, description=self.description, **asked)
        return replace(BASE, description=self.description, pairs=(PromptPair(self.words, PLAIN),))

    @property
    def prompt(self) -> str:
        """The baseline that a vector is held against: what the data were made with, as a system prompt."""
        return self.words or described_pairs(self.description)[0].positive


_ALL = (
    Case("pirate", "speaks like a pirate", asks=True),
    Case("excited", "is overjoyed and excited about everything"),
    Case("french", "answers in French"),
    Case("sad", "is sad and complains all the time"),
    Case("poet", "answers with a short poem"),
    Case(
        "pirate-prompts",
        "speaks like a pirate",
        "You are a pirate. Answer every question in pirate speech, with words such as arr, matey, aye and ye.",
    ),
    Case(
        "excited-prompts",
        "is overjoyed and excited about everything",
        "You are extremely happy and excited. Answer every question with joy, exclamation marks and delight.",
    ),
)
CASES = {case.name: case for case in _ALL}
