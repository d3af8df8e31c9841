"""A thin client that raises where an answer was not steered as asked. It needs httpx and nothing of the server's."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tillerman.core.errors import EndpointError, NotAppliedError, UsageError

try:
    import httpx
except ImportError as error:
    raise UsageError("the client needs httpx; install it with: pip install 'tillerman[serve]'") from error

Plan = str | Sequence[str | Mapping[str, Any]]  # every form of the field ``steering``
_PLAN_HEADER = "X-Tillerman-Plan"


@dataclass(frozen=True)
class ServedReply:
    """An answer's text, its receipt, and the whole answer as it came."""

    text: str
    receipt: Mapping[str, Any]
    raw: Mapping[str, Any]


class SteeringClient:
    """Asks a Tillerman server. ``model`` None: the first that it lists.

    ``EndpointError`` for what the server refuses, with its words; ``NotAppliedError`` for an answer without a receipt,
    or with one that is not the plan asked for.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        model: str | None = None,
        seconds: float = 120.0,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        base = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(base_url=base, headers=headers, timeout=seconds)
        self._model = model

    def __enter__(self) -> SteeringClient:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def model(self) -> str:
        if self._model is None:
            self._model = str(self._got("/v1/models")["data"][0]["id"])
        return self._model

    def artefacts(self) -> list[Mapping[str, Any]]:
        """What there is to steer by: name, digest, dose, card, cap."""
        return list(self._got("/v1/artefacts")["data"])

    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        steering: Plan | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ServedReply:
        """One answer. ``messages`` may be the user's text alone; ``options`` are further fields of OpenAI's request."""
        answer = self._asked(self._body(messages, steering, options))
        told = answer.json()
        receipt = ensure_applied(told, steering, answer.headers.get(_PLAN_HEADER))
        return ServedReply(str(told["choices"][0]["message"]["content"]), receipt, told)

    def stream(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        steering: Plan | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Generator[str, None, Mapping[str, Any]]:
        """The answer bit by bit. What came is not to be relied on before the end, where its receipt is read; it is what
        the generator returns."""
        body = {**self._body(messages, steering, options), "stream": True}
        last: Mapping[str, Any] = {}
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _refusal(answer)
                for told in _events(answer):
                    last = told if "steering" in told else last
                    for choice in told["choices"]:
                        if choice["delta"].get("content"):
                            yield choice["delta"]["content"]
                return ensure_applied(last, steering, answer.headers.get(_PLAN_HEADER))
        except httpx.HTTPError as error:
            raise EndpointError(f"the stream has broken off: {error}") from error

    def _body(
        self, messages: str | Sequence[Mapping[str, Any]], steering: Plan | None, options: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        plan = {} if steering is None else {"steering": steering}
        return {"model": self.model, "messages": said, **(options or {}), **plan}

    def _asked(self, body: Mapping[str, Any]) -> httpx.Response:
        answer = _reached(lambda: self._http.post("/v1/chat/completions", json=body))
        if answer.status_code != 200:
            raise _refusal(answer)
        return answer

    def _got(self, path: str) -> Any:
        answer = _reached(lambda: self._http.get(path))
        if answer.status_code != 200:
            raise _refusal(answer)
        return answer.json()


def ensure_applied(answer: Mapping[str, Any], steering: Plan | None, plan: str | None = None) -> Mapping[str, Any]:
    """The receipt of an answer, of any client (``response.model_dump()`` of the ``openai`` SDK's).

    ``NotAppliedError`` where there is none, where it does not hold every artefact of ``steering`` (at its dose, where
    one is given) and no other, where one touched no token, or where its fingerprint is not ``plan``, the header
    ``X-Tillerman-Plan``. ``steering`` None: whatever the server's default is.
    """
    receipt = answer.get("steering")
    if not isinstance(receipt, Mapping) or "applied" not in receipt:
        raise NotAppliedError("the answer has no receipt: it does not come from a Tillerman server, and is unsteered")
    if plan is not None and receipt.get("plan") != plan:
        raise NotAppliedError(f"the receipt is of plan {receipt.get('plan')}, the answer was begun under {plan}")
    applied = receipt["applied"]
    ended = "aborted" in receipt.get("endings", ())  # by a monitor, maybe before its scope met a token
    if steering is not None:
        _ensure_asked(steering, applied)
    for one in applied:
        shut = one["gate"] is not None and not all(one["gate"]["open"])
        idle = [point for point, count in one["at"].items() if not count > 0]
        if idle and one["strength"] != 0 and not shut and not ended:
            raise NotAppliedError(f"{one['artefact']}: touched no token at {', '.join(idle)}")
    return receipt


def _ensure_asked(steering: Plan, applied: Sequence[Mapping[str, Any]]) -> None:
    from tillerman.serving.asked import read_steering  # the grammar, which loads torch

    wanted = [(one.part.name, one.part.dose) for one in read_steering(steering) or ()]
    left = [(one["artefact"], one["dose"]) for one in applied]
    for name, dose in wanted:
        found = next((one for one in left if one[0] == name and (dose is None or abs(one[1] - dose) < 1e-6)), None)
        if found is None:
            raise NotAppliedError(f"{name} was asked for{'' if dose is None else f' at dose {dose:g}'}, and not done")
        left.remove(found)
    if left:
        raise NotAppliedError(f"{left[0][0]} was done and not asked for")


def _events(answer: httpx.Response) -> Generator[Mapping[str, Any], None, None]:
    for line in answer.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            told = json.loads(line.removeprefix("data: "))
            if "error" in told:
                raise _failure(told["error"])
            yield told


def _reached(send: Any) -> httpx.Response:
    try:
        answer: httpx.Response = send()
    except httpx.HTTPError as error:
        raise EndpointError(f"the server cannot be reached: {error}") from error
    return answer


def _refusal(answer: httpx.Response) -> Exception:
    try:
        return _failure(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return EndpointError(f"the server answers {answer.status_code}, and not as a Tillerman server does")


def _failure(error: Mapping[str, Any]) -> Exception:
    if error.get("code") == "not_applied":
        return NotAppliedError(str(error.get("message")))
    return EndpointError(f"{error.get('code')}: {error.get('message')}")
