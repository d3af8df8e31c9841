"""Turns of a conversation: what was said before the question of an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.errors import DataError

ROLES = ("system", "user", "assistant")
ANSWERER = "Assistant:"  # the cue of a conversation in plain text


@dataclass(frozen=True)
class Turn:
    """What one side said; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DataError(f"expected a role among {', '.join(ROLES)}, got {self.role!r}", field="role")


def as_text(turns: Sequence[Turn]) -> str:
    """A conversation as plain text, for models without a chat template: a system prompt bare, then who says what."""
    return "\n".join(turn.text if turn.role == "system" else f"{turn.role.capitalize()}: {turn.text}" for turn in turns)


def system_text(turns: Sequence[Turn]) -> str:
    """What the conversation's own system prompts say; empty without one."""
    return "\n\n".join(turn.text for turn in turns if turn.role == "system")


def spoken(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns of user and assistant."""
    return tuple(turn for turn in turns if turn.role != "system")


def exchanges(turns: Sequence[Turn]) -> tuple[tuple[str, str], ...]:
    """The turns in pairs (user, assistant)."""
    said = [turn.text for turn in spoken(turns)]
    return tuple(zip(said[::2], said[1::2], strict=False))


def history_fault(turns: Sequence[Turn]) -> str | None:
    """What is wrong with turns before a question: None, or words. A system prompt may stand first; then user and
    assistant speak in turn, the assistant last."""
    roles = [turn.role for turn in turns]
    rest = roles[1:] if roles[:1] == ["system"] else roles
    if rest == ["user", "assistant"] * (len(rest) // 2):
        return None
    shown = ", ".join(roles[:8]) + (", ..." if len(roles) > 8 else "")
    return (
        "expected user and assistant in turn, after at most one system prompt; before the question "
        f"{'speaks' if len(roles) == 1 else 'speak'} {shown}"
    )
