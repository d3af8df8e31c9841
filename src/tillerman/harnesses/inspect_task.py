"""The task of an exported folder, for inspect-ai. This file is copied beside the items and needs no Tillerman."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

_MESSAGES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


@task
def items(closed: bool = True) -> Task:
    """The items beside this file. ``closed``: the model may say nothing but one of the answers, as the body of
    the request asks for in vLLM's words (``structured_outputs``); a provider that does not read it answers freely,
    and one that refuses it needs ``closed`` False."""
    lines = Path(__file__).with_name("items.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [_sample(json.loads(line)) for line in lines]
    return Task(dataset=MemoryDataset(samples), solver=ask(closed), scorer=answer_given())


@solver
def ask(closed: bool) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if not closed:
            return await generate(state)
        choice = {"choice": state.metadata["answers"]}
        return await generate(state, extra_body={"structured_outputs": choice, "whole": state.metadata["whole"]})

    return solve


@scorer(metrics=[accuracy(), stderr()])
def answer_given() -> Scorer:
    """The answer with which the reply begins; no answer is not right."""

    async def score(state: TaskState, target: Target) -> Score:
        given = first_answer(state.output.completion, state.metadata["answers"])
        if given is None:
            return Score(value=NOANSWER)
        return Score(value=CORRECT if given == target.text else INCORRECT, answer=given)

    return score


def first_answer(reply: str, answers: list[str]) -> str | None:
    """The longest answer that the reply begins with, as a whole word; None where it begins with none."""
    text = reply.strip()
    for answer in sorted(answers, key=len, reverse=True):
        if re.match(rf"{re.escape(answer.strip())}(?!\w)", text):
            return answer
    return None


def _sample(row: dict[str, Any]) -> Sample:
    said = [_MESSAGES[message["role"]](content=message["content"]) for message in row["messages"]]
    kept = {"answers": row["answers"], "whole": row["whole"]}
    return Sample(input=said, target=row["answers"][row["right"]], id=row["id"], metadata=kept)
