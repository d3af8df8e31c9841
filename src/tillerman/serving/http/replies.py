"""Answers in OpenAI's shapes, whole and in pieces, with our receipt beside ``usage``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Protocol

from openai.types import Completion
from openai.types.chat import ChatCompletion

from tillerman.serving.answering import Answer
from tillerman.serving.door import Admitted
from tillerman.serving.engine import Chunk, Ended, Taken

_JSON = json.JSONEncoder(separators=(",", ":")).encode
DONE = b"data: [DONE]\n\n"
_LOWEST = -9999.0  # in place of a log-probability of minus infinity, which JSON has not


class Shape(Protocol):
    """One route's way to say an answer."""

    def __init__(self, admitted: Admitted) -> None: ...
    def whole(self, answers: Sequence[Answer], extra: dict[str, Any]) -> dict[str, Any]: ...
    def opening(self, place: int) -> bytes: ...
    def chunk(self, place: int, chunk: Chunk) -> bytes: ...
    def finish(self, place: int, ended: Ended, extra: dict[str, Any]) -> bytes: ...
    def last(self, ends: Sequence[Ended], extra: dict[str, Any]) -> bytes: ...


class _Shared:
    object_whole, object_chunk, prefix = "", "", ""

    def __init__(self, admitted: Admitted) -> None:
        self._choices = admitted.choices
        self._logprobs = admitted.jobs[0].drawing.logprobs is not None
        self._head = {
            "id": f"{self.prefix}-{admitted.id}",
            "object": self.object_chunk,
            "created": int(time.time()),
            "model": admitted.model,
        }

    def _event(self, choice: dict[str, Any], extra: dict[str, Any] | None = None) -> bytes:
        return _data({**self._head, "choices": [choice], **(extra or {})})

    def last(self, ends: Sequence[Ended], extra: dict[str, Any]) -> bytes:
        return _data({**self._head, "choices": [], "usage": usage(ends, self._choices), **extra})

    def _whole(self, choices: list[dict[str, Any]], answers: Sequence[Answer], extra: dict[str, Any]) -> dict[str, Any]:
        ends = [one.ended for one in answers if one.ended is not None]
        return {
            **self._head,
            "object": self.object_whole,
            "choices": choices,
            "usage": usage(ends, self._choices),
            **extra,
        }


class ChatShape(_Shared):
    object_whole, object_chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def whole(self, answers: Sequence[Answer], extra: dict[str, Any]) -> dict[str, Any]:
        choices = [
            {
                "index": place,
                "message": {"role": "assistant", "content": one.text, "refusal": None},
                "logprobs": self._probabilities(one.tokens),
                "finish_reason": _reason(one.ended),
            }
            for place, one in enumerate(answers)
        ]
        return ChatCompletion.model_validate(self._whole(choices, answers, extra)).model_dump(
            mode="json", exclude_unset=True
        )

    def opening(self, place: int) -> bytes:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._event({"index": place, "delta": delta, "logprobs": None, "finish_reason": None})

    def chunk(self, place: int, chunk: Chunk) -> bytes:
        told = self._probabilities(chunk.tokens)
        return self._event({"index": place, "delta": {"content": chunk.text}, "logprobs": told, "finish_reason": None})

    def finish(self, place: int, ended: Ended, extra: dict[str, Any]) -> bytes:
        return self._event({"index": place, "delta": {}, "logprobs": None, "finish_reason": _reason(ended)}, extra)

    def _probabilities(self, tokens: Sequence[Taken]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        told = [
            {
                **_token(one.text, one.logprob),
                "token_id": one.token,
                "top_logprobs": [_token(text, p) for _, text, p in one.others],
            }
            for one in tokens
        ]
        return {"content": told, "refusal": None}


class TextShape(_Shared):
    object_whole, object_chunk, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, admitted: Admitted) -> None:
        super().__init__(admitted)
        self._offsets: dict[int, int] = {}  # characters of each answer's tokens so far

    def whole(self, answers: Sequence[Answer], extra: dict[str, Any]) -> dict[str, Any]:
        choices = [
            self._choice(place, one.text, self._probabilities(place, one.tokens), _reason(one.ended))
            for place, one in enumerate(answers)
        ]
        return Completion.model_validate(self._whole(choices, answers, extra)).model_dump(
            mode="json", exclude_unset=True
        )

    def opening(self, place: int) -> bytes:
        return b""

    def chunk(self, place: int, chunk: Chunk) -> bytes:
        return self._event(self._choice(place, chunk.text, self._probabilities(place, chunk.tokens), None))

    def finish(self, place: int, ended: Ended, extra: dict[str, Any]) -> bytes:
        return self._event(self._choice(place, "", None, _reason(ended)), extra)

    def _choice(self, place: int, text: str, logprobs: Any, reason: str | None) -> dict[str, Any]:
        return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _probabilities(self, place: int, tokens: Sequence[Taken]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        offsets = []
        for one in tokens:
            offsets.append(self._offsets.get(place, 0))
            self._offsets[place] = offsets[-1] + len(one.text)
        return {
            "text_offset": offsets,
            "token_logprobs": [finite(one.logprob) for one in tokens],
            "tokens": [one.text for one in tokens],
            "token_ids": [one.token for one in tokens],
            "top_logprobs": [{text: finite(p) for _, text, p in one.others} for one in tokens],
        }


def usage(ends: Sequence[Ended], choices: int) -> dict[str, Any]:
    """Tokens of the request; a prompt counts once, whatever the number of its answers."""
    prompt, made = sum(end.prompt_tokens for end in ends) // choices, sum(end.answer_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends) // choices},
    }


def error_event(body: dict[str, Any]) -> bytes:
    return _data(body)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + _JSON(value).encode() + b"\n\n"


def _reason(ended: Ended | None) -> str:
    """OpenAI's words; the receipt has our own."""
    ending = "" if ended is None else ended.ending
    return {"length": "length", "aborted": "content_filter"}.get(ending, "stop")


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "bytes": list(text.encode("utf-8", "surrogatepass")), "logprob": finite(logprob)}


def finite(logprob: float | None) -> float:
    return _LOWEST if logprob is None or not logprob > _LOWEST else logprob
