"""Calls to an OpenAI-compatible ``/chat/completions``: retried, cached in a file, and replayable without a network.

The cache is a file of JSON lines, one per finished call, written as each comes; its key is a hash of model, messages,
sampling parameters and repeat number, so a killed run goes on where it stopped and a finished one needs no endpoint.
The API key is read from an environment variable when a call is made; it reaches neither cache nor log nor error text.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from tillerman.core.errors import DataError, EndpointError, UsageError
from tillerman.core.files import as_ours
from tillerman.core.rows import Progress, silent
from tillerman.evaluation.scorers.endpoint import Endpoint as Endpoint

RETRIED = (408, 409, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds, also where Retry-After asks for more


@dataclass(frozen=True)
class Call:
    """One question: messages as (role, content); ``repeat`` tells ratings of the same text apart."""

    messages: tuple[tuple[str, str], ...]
    repeat: int = 0


class ChatSource(Protocol):
    """Answers calls, in their order; None where the endpoint gave an answer without text."""

    @property
    def model(self) -> str: ...
    def ask(self, calls: Sequence[Call], progress: Progress = silent) -> list[str | None]: ...


class Cache:
    """Answers by key. Without a path they are kept in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{path}: the folder {path.parent} does not exist; create it first")
        self._answers = {} if path is None or not path.exists() else _read(path)

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> str | None:
        return self._answers[key]

    def add(self, key: str, model: str, call: Call, answer: str | None) -> None:
        with self._lock:
            self._answers[key] = answer
            if self._path is not None:
                line = {"key": key, "model": model, "call": asdict(call), "answer": answer}
                # Half a surrogate pair in a prompt is spelt out, as JSON does it.
                with as_ours(self._path), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    # The leading newline closes a line that a killed run left unfinished.
                    file.write("\n" + json.dumps(line, ensure_ascii=False) + "\n")


class Client:
    """Asks an endpoint what the cache does not know, ``at_once`` calls at a time."""

    def __init__(self, endpoint: Endpoint, cache: Cache | None = None, sleep: Callable[[float], None] = time.sleep):
        self.endpoint, self._cache, self._sleep = endpoint, cache or Cache(), sleep

    @property
    def model(self) -> str:
        return self.endpoint.model

    def ask(self, calls: Sequence[Call], progress: Progress = silent) -> list[str | None]:
        e = self.endpoint
        keys = [call_key(e.model, call, e.temperature, e.max_tokens) for call in calls]
        new = {key: call for key, call in zip(keys, calls, strict=True) if key not in self._cache}
        progress(len(calls) - len(new))
        if not new:
            return [self._cache[key] for key in keys]
        with _httpx().Client(timeout=e.timeout) as http, ThreadPoolExecutor(e.at_once) as pool:
            running = [pool.submit(self._fetch, http, key, call, progress) for key, call in new.items()]
            try:
                for one in running:
                    one.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [self._cache[key] for key in keys]

    def _fetch(self, http: Any, key: str, call: Call, progress: Progress) -> None:
        self._cache.add(key, self.model, call, self._answer(http, call))
        progress(1)

    def _answer(self, http: Any, call: Call) -> str | None:
        """Retried on time-outs, broken connections and ``RETRIED``; the wait doubles, or is what the server asks."""
        e, wait, fault = self.endpoint, self.endpoint.first_wait, ""
        for attempt in range(e.attempts):
            try:
                status, headers, text = _posted(http, e, call)
            except _httpx().InvalidURL:
                raise UsageError(f"{e.role} {e.shown!r}: not a valid address") from None
            except _httpx().RequestError as error:
                fault, asked = type(error).__name__, None
            else:
                if status == 200:
                    return _content(e, text)
                fault, asked = f"status {status}", _seconds(headers.get("retry-after"))
                if status not in RETRIED:
                    raise EndpointError(f"{e.shown}: {fault}: {e.without_secrets(text)[:200]}")
            if attempt + 1 < e.attempts:
                pause = wait * random.uniform(0.5, 1.0) if asked is None else asked  # so that threads part
                self._sleep(min(pause, LONGEST_WAIT))
                wait *= 2
        raise EndpointError(
            f"{e.shown}: {fault}, {e.attempts} times; finished calls are cached; run the same command to resume"
        )


class Replay:
    """Answers from a cache alone; a call that is not there is an error that names it. ``role`` and ``flag``: whose
    answers they are, and which option keeps them."""

    def __init__(
        self,
        path: Path,
        model: str,
        temperature: float = 0.0,
        max_tokens: int = 16,
        *,
        role: str = "judge",
        flag: str = "--judge-cache",
    ) -> None:
        if not path.is_file():
            raise DataError(f"no such file of {role} answers; run with {flag} first", file=path)
        self._path, self._cache, self._flag = path, Cache(path), flag
        self.model, self._sampling = model, (temperature, max_tokens)

    def ask(self, calls: Sequence[Call], progress: Progress = silent) -> list[str | None]:
        keys = [call_key(self.model, call, *self._sampling) for call in calls]
        for key, call in zip(keys, calls, strict=True):
            if key not in self._cache:
                said = call.messages[-1][1][-80:]
                raise DataError(
                    f"no answer of {self.model} to call {key} (repeat {call.repeat}, ending {said!r}); run it against "
                    f"the endpoint with this file as {self._flag}",
                    file=self._path,
                )
        progress(len(calls))
        return [self._cache[key] for key in keys]


def call_key(model: str, call: Call, temperature: float, max_tokens: int) -> str:
    """The hash of everything an answer depends on."""
    whole = json.dumps([model, call.messages, temperature, max_tokens, call.repeat], ensure_ascii=False)
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _posted(http: Any, e: Endpoint, call: Call) -> tuple[int, Any, str]:
    """Status, headers and text of one request. An answer is read no further than ``e.longest`` bytes."""
    headers, content = {"Accept-Encoding": "identity", **_headers(e)}, bytearray()
    with http.stream("POST", _address(e.url), json=_body(e, call), headers=headers) as found:
        for part in found.iter_bytes():
            content += part
            if len(content) > e.longest:
                raise EndpointError(
                    f"{e.shown}: an answer of more than {e.longest / 1e6:.3g} MB, where a few words were asked for; is "
                    "this an OpenAI-compatible endpoint?"
                )
        return found.status_code, found.headers, content.decode("utf-8", "replace")


def _address(url: str) -> str:
    bare, mark, query = url.partition("?")
    return f"{bare.rstrip('/')}/chat/completions{mark}{query}"


def _body(e: Endpoint, call: Call) -> dict[str, Any]:
    messages = [{"role": role, "content": _whole(content)} for role, content in call.messages]
    return {"model": e.model, "messages": messages, "temperature": e.temperature, "max_tokens": e.max_tokens}


def _headers(e: Endpoint) -> dict[str, str]:
    return {"Authorization": f"Bearer {e.key}"} if e.key else {}


def _content(e: Endpoint, text: str) -> str | None:
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        said = e.without_secrets(text)[:200]
        raise EndpointError(f"{e.shown}: not an answer of an OpenAI-compatible endpoint: {said!r}") from None
    return _whole(content) if isinstance(content, str) else None


def _whole(text: str) -> str:
    """Halves of surrogate pairs, which UTF-8 does not have, as question marks."""
    return text.encode("utf-8", "replace").decode()


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, counts as not given."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        raise UsageError("an endpoint needs httpx; install it with: pip install 'tillerman[judge]'") from None
    return httpx


def _read(path: Path) -> dict[str, str | None]:
    answers: dict[str, str | None] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
            answers[found["key"]] = found["answer"]
        except (ValueError, KeyError, TypeError):
            continue  # the line a killed run was writing, or the blank before the next
    return answers
