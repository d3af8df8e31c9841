"""The artefact's scope in a conversation: where earlier turns are steered when they are read again, and where not."""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan, Scope
from tillerman.data.marked_scopes import after_instruction, assistant_turns, last_turn

_ANSWERS = ("after_instruction", "assistant_turns", "generated")  # scopes of what is said, not of what is asked
KNOWN = ("all", *_ANSWERS)


def live(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> Plan:
    """Earlier turns are steered again where they were when they were written: ``all`` as it is, scopes of the answer
    as ``assistant_turns``."""
    return _scoped(plan, assistant_turns(tokenizer), None)


def frozen(plan: Plan, tokenizer: PreTrainedTokenizerBase, turn: int) -> Plan:
    """Only the present turn is steered, from its question on (``all``) or its answer."""
    return _scoped(plan, after_instruction(tokenizer), last_turn(tokenizer) if turn > 1 else None)


def _scoped(plan: Plan, answers: Scope, everything: Scope | None) -> Plan:
    for item in plan:
        if item.scope.name not in KNOWN:
            known = ", ".join(KNOWN)
            raise UsageError(f"scope '{item.scope}': of earlier turns it has no meaning; this study knows {known}")
    return tuple(
        replace(item, scope=answers if item.scope.name in _ANSWERS else everything or item.scope) for item in plan
    )
