"""Conversations as they are published: lists of messages, ShareGPT's ``from`` and ``value``, transcripts.

What is read is a tuple of turns; ``tillerman.data.conversations`` makes examples of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tillerman.data.fields import quoted, text, value, writable
from tillerman.data.reading.literals import listed
from tillerman.data.reading.rows import SourceRow, kind_of
from tillerman.data.turns import Turn

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_KEYS = (("role", "content"), ("from", "value"))
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]*")


def is_messages(found: object) -> bool:
    """Whether a field holds a list of messages, as a list or written out as one."""
    found = _listed(found)
    return isinstance(found, list | tuple) and bool(found) and all(is_message(item) for item in found)


def is_message(found: object) -> bool:
    return isinstance(found, Mapping) and any(all(key in found for key in keys) for keys in _KEYS)


def is_transcript(found: object) -> bool:
    """``Human: ... Assistant: ...`` in one text, as in Anthropic's hh-rlhf."""
    return isinstance(found, str) and found.lstrip().startswith("Human:") and "\n\nAssistant:" in found


def is_conversation(found: object) -> bool:
    return is_messages(found) or is_transcript(found)


def turns(row: SourceRow, name: str, *, opened: bool = False) -> tuple[Turn, ...]:
    """The turns of a field. ``opened``: a transcript may end where the assistant is to speak."""
    found = _listed(value(row, name))
    if is_transcript(found):
        return _transcript(row, name, str(found), opened)
    if is_message(found):
        found = [found]
    if not isinstance(found, list | tuple) or not found:
        raise row.error(f"expected a list of messages with role and content, got {kind_of(found)}", name)
    read = [_turn(row, name, item) for item in found]
    return tuple(turn for turn in read if turn.text.strip() or turn.role != "system")


def plain_or_turns(row: SourceRow, name: str, *, opened: bool = False) -> str | tuple[Turn, ...]:
    """A field that holds plain text or a conversation."""
    found = value(row, name)
    if is_conversation(found) or isinstance(found, list | tuple | Mapping):
        return turns(row, name, opened=opened)
    return text(row, name)


def past_exchanges(row: SourceRow, name: str) -> tuple[Turn, ...]:
    """Earlier turns as pairs ``[user, assistant]`` (LLaMA-Factory's ``history``); none where the field is empty."""
    pairs = row.fields.get(name)
    if pairs is None or pairs == []:
        return ()
    if not isinstance(pairs, list | tuple):
        raise row.error(f"expected a list of pairs [user, assistant], got {kind_of(pairs)}", name)
    found = []
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(said, str) for said in pair)):
            raise row.error("expected a list of pairs [user, assistant]", name)
        found += [Turn("user", writable(row, name, pair[0])), Turn("assistant", writable(row, name, pair[1]))]
    return tuple(found)


def _listed(found: object) -> object:
    """A list or object that a table wrote out as text (JSON, or as Python shows it), read again."""
    if not isinstance(found, str) or not found.strip().startswith(("[{", "{")) or len(found) > 1_000_000:
        return found
    read_again = listed(found)
    wanted = read_again if isinstance(read_again, list) else [read_again]
    return read_again if wanted and all(is_message(item) for item in wanted) else found


def _turn(row: SourceRow, name: str, item: Any) -> Turn:
    if not is_message(item):
        raise row.error(f"expected messages with role and content (or from and value), got {kind_of(item)}", name)
    role_key, text_key = next(keys for keys in _KEYS if all(key in item for key in keys))
    given = item[role_key]
    role = _ROLES.get(given.strip().casefold()) if isinstance(given, str) else None
    if role is None:
        raise row.error(f"expected a message of system, user or assistant, got one of {quoted(given)}", name)
    content = _content(item[text_key])
    if content is None or not (content.strip() or role == "system"):
        raise row.error(f"a message of the {role} has no text", name)
    return Turn(role, writable(row, name, content))


def _content(found: object) -> str | None:
    """The text of a message: text, or a list of parts that are all text. None where something else is in it."""
    if isinstance(found, str):
        return found
    if not isinstance(found, list | tuple):
        return None
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in found]
    said = [part for part in parts if isinstance(part, str)]
    return "\n".join(said) if said and len(said) == len(parts) else None


def _transcript(row: SourceRow, name: str, found: str, opened: bool) -> tuple[Turn, ...]:
    pieces = _SPEAKER.split(writable(row, name, found))
    said = list(zip(pieces[1::2], (piece.strip() for piece in pieces[2::2]), strict=True))
    if opened and said and said[-1] == ("Assistant", ""):
        said.pop()
    if any(not content for _, content in said):
        raise row.error("a turn of the transcript is empty", name)
    return tuple(Turn("user" if speaker == "Human" else "assistant", content) for speaker, content in said)


def said_last(row: SourceRow, name: str, found: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], str]:
    """A prompt in turns as (what was said before, the user's last message)."""
    if not found or found[-1].role != "user":
        who = found[-1].role if found else "nobody"
        raise row.error(f"expected a conversation whose last message is the user's, got one that ends with {who}", name)
    return found[:-1], found[-1].text
