"""Rows that hold conversations, or two answers to one prompt, into examples.

The last message of the user is the question, everything before it the history. Of two whole conversations
the common beginning is the prompt and what follows are the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tillerman.data import messages as read
from tillerman.data.examples import Example
from tillerman.data.fields import example, optional_text, text, truth, value, writable
from tillerman.data.reading.rows import SourceRow, kind_of
from tillerman.data.splits import normalised
from tillerman.data.texts import LabelledReply
from tillerman.data.thoughts import reference_answer
from tillerman.data.turns import Turn, history_fault, spoken

Asked = tuple[tuple[Turn, ...], str]  # what was said before, and the question

_LARGEST = 1e300  # of a rating; whole numbers may be larger than any float
NAME_POSITIVE = "; name the positive class with positive_label (--positive)"


def prompted_pair(row: SourceRow) -> Example:
    """A prompt with a text of either side."""
    return compared(row, "prompt", "positive", "negative")


def are_messages(fields: Mapping[str, Any]) -> bool:
    return read.is_conversation(fields["messages"])


def are_conversations(fields: Mapping[str, Any]) -> bool:
    return read.is_conversation(fields["chosen"]) and read.is_conversation(fields["rejected"])


def preference(row: SourceRow) -> Example:
    """Prompt, preferred and rejected answer, each plain text or messages; the messages may repeat the prompt
    (TRL: explicit and implicit prompts), and the prompt may be missing where both sides are conversations."""
    return compared(row, "prompt", "chosen", "rejected")


def preferred(row: SourceRow) -> Example:
    return compared(row, "prompt", "preferred", "rejected")


def messages_preference(row: SourceRow) -> Example:
    """LLaMA-Factory and others: the conversation so far, and two messages that may follow."""
    return compared(row, "messages", "chosen", "rejected")


def instructed(row: SourceRow) -> Example:
    """Instruction and input (Alpaca), earlier pairs in ``history``, and two answers."""
    return compared(row, "instruction", "chosen", "rejected")


def conversation_pair(row: SourceRow) -> Example:
    """Two whole conversations with a common beginning (hh-rlhf, TRL's implicit prompt)."""
    return compared(row, None, "chosen", "rejected")


def openai_preference(row: SourceRow) -> Example:
    """OpenAI's preference format: ``input`` with ``messages``, and two lists of output messages."""
    found = value(row, "input")
    if not isinstance(found, Mapping) or not read.is_messages(found.get("messages")):
        raise row.error("expected an object with 'messages'", "input")
    inner = SourceRow({**row.fields, "input": found["messages"]}, row.file, row.line, row.columns)
    return compared(inner, "input", "preferred_output", "non_preferred_output")


def compared(row: SourceRow, prompt: str | None, wanted: str, other: str) -> Example:
    sides = [read.plain_or_turns(row, name) for name in (wanted, other)]
    asked = read.plain_or_turns(row, prompt, opened=True) if prompt is not None else ()
    shared, answers = _answers(row, wanted, other, sides)
    history, question = _asked(row, prompt or wanted, asked, shared)
    return _example(row, "preference", (history, question), answers, wanted, prompt)


def _answers(
    row: SourceRow, wanted: str, other: str, sides: list[str | tuple[Turn, ...]]
) -> tuple[tuple[Turn, ...], tuple[str, str]]:
    """What two sides begin with alike, and the two answers."""
    one, two = sides
    if isinstance(one, str) and isinstance(two, str):
        return (), (one, two)
    if isinstance(one, str) or isinstance(two, str):
        raise row.error(f"expected two texts or two conversations, got one of each in {wanted} and {other}", other)
    same = 0
    while same < min(len(one), len(two)) and one[same] == two[same]:
        same += 1
    for name, side in ((wanted, one), (other, two)):
        if [turn.role for turn in side[same:]] != ["assistant"]:
            raise row.error(
                "expected two conversations that are the same up to the last answer; "
                f"{len(side) - same} messages differ here",
                name,
            )
    return one[:same], (one[same].text, two[same].text)


def _asked(row: SourceRow, name: str, prompt: str | tuple[Turn, ...], shared: tuple[Turn, ...]) -> Asked:
    """One prompt of what the row gives as its prompt and what both sides begin with."""
    if not any(turn.role == "user" for turn in shared):  # answers alone, or after a system prompt
        given = (Turn("user", prompt),) if isinstance(prompt, str) else prompt
        return read.said_last(row, name, (*(turn for turn in shared if turn not in given), *given))
    said = spoken(shared)
    if isinstance(prompt, str):
        fits = normalised(prompt) in {normalised(turn.text) for turn in said if turn.role == "user"}
    else:
        fits = said[: len(spoken(prompt))] == spoken(prompt)
    if not fits:
        raise row.error("the conversations do not begin with this prompt, so two prompts are given; drop one", name)
    system = [turn for turn in (*shared, *prompt) if isinstance(turn, Turn) and turn.role == "system"]
    return read.said_last(row, name, (*system[:1], *said))


def _example(
    row: SourceRow, kind: str, asked: Asked, answers: tuple[str, ...], name: str, prompt: str | None = None
) -> Example:
    history, question = _whole(row, asked, prompt or name)
    return example(row, kind, question, answers, 0, name, history)


def _whole(row: SourceRow, asked: Asked, name: str | None) -> Asked:
    """With what else the row says before the question: system prompt, earlier pairs, input of the instruction."""
    history, question = asked
    if "instruction" in row.fields:
        more = optional_text(row, "input").strip()
        question = f"{question}\n{more}" if more else question
        history = (*read.past_exchanges(row, "history"), *history)
    own = optional_text(row, "system")
    said = [turn.text for turn in history if turn.role == "system"]
    if own.strip() and not said:
        history = (Turn("system", own), *history)
    elif own.strip() and said != [own]:
        raise row.error("another system prompt than the conversation's own: two readings; drop one", "system")
    if fault := history_fault(history):
        raise row.error(fault, name)
    return history, question


def open_messages(row: SourceRow) -> Example:
    """A conversation without a label: the last question, with the last answer as reference."""
    found = read.turns(row, "messages")
    if found[-1:] == () or found[-1].role != "assistant":
        raise row.error("expected a conversation that ends with the assistant's answer", "messages")
    asked = read.said_last(row, "messages", found[:-1])
    return _example(row, "open", asked, (reference_answer(found[-1].text),), "messages")


def labelled_messages(row: SourceRow) -> LabelledReply:
    """A conversation with a label: whether its last answer is of the wanted class."""
    found = read.turns(row, "messages")
    if found[-1:] == () or found[-1].role != "assistant":
        raise row.error("expected a conversation that ends with the assistant's answer", "messages")
    return _labelled(row, read.said_last(row, "messages", found[:-1]), found[-1].text)


def kto(row: SourceRow) -> LabelledReply:
    """TRL's unpaired preferences: prompt, completion, and whether it is wanted."""
    asked = read.plain_or_turns(row, "prompt", opened=True)
    reply = read.plain_or_turns(row, "completion")
    if not isinstance(reply, str):
        if [turn.role for turn in reply] != ["assistant"]:
            raise row.error("expected one message of the assistant", "completion")
        reply = reply[0].text
    given = (Turn("user", asked),) if isinstance(asked, str) else asked
    return _labelled(row, read.said_last(row, "prompt", given), reply)


def _labelled(row: SourceRow, asked: Asked, reply: str) -> LabelledReply:
    history, question = _whole(row, asked, None)
    return LabelledReply(history, question, reply, truth(row, "label", NAME_POSITIVE))


def rated(row: SourceRow) -> Example:
    """UltraFeedback: an instruction and rated ``completions``; the best against the worst."""
    return _best_and_worst(row, ((), text(row, "instruction")), "overall_score", "response", least_first=False)


def ranked(row: SourceRow) -> Example:
    """NeMo-RL: ``context`` in messages and ranked ``completions``, rank 0 the best."""
    asked = read.said_last(row, "context", read.turns(row, "context"))
    return _best_and_worst(row, asked, "rank", "completion", least_first=True)


def _best_and_worst(row: SourceRow, asked: Asked, mark: str, reply: str, *, least_first: bool) -> Example:
    found = value(row, "completions")
    if not isinstance(found, list | tuple) or len(found) < 2 or not all(isinstance(item, Mapping) for item in found):
        raise row.error(f"expected a list of at least two objects with {reply!r} and {mark!r}", "completions")
    rated = [(_number(row, item.get(mark), mark), item.get(reply)) for item in found]
    rated.sort(key=lambda pair: pair[0], reverse=not least_first)
    if rated[0][0] == rated[-1][0]:
        raise row.error(f"every completion has the same {mark}, so none is better", "completions")
    return _example(row, "preference", asked, (_reply(row, rated[0][1]), _reply(row, rated[-1][1])), "completions")


def _number(row: SourceRow, found: object, mark: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not -_LARGEST < found < _LARGEST:
        raise row.error(f"expected a number in {mark!r}, got {kind_of(found)}", "completions")
    return float(found)


def _reply(row: SourceRow, found: object) -> str:
    if isinstance(found, str) and found.strip():
        return writable(row, "completions", found)
    if read.is_messages(found):
        inner = SourceRow({"completions": found}, row.file, row.line, row.columns)
        said = read.turns(inner, "completions")
        if [turn.role for turn in said] == ["assistant"]:
            return said[0].text
    raise row.error("a completion is empty; expected text or one message of the assistant", "completions")
