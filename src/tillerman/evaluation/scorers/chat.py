"""Calls to an OpenAI-compatible ``/chat/completions``: retried, cached in a file, and replayable without a network.

The cache is a file of JSON lines, one per finished call, written as each comes; its key is a hash of model, messages,
sampling parameters and repeat number, so a killed run goes on where it stopped and a finished one needs no endpoint.
The API key is read from an environment variable when a call is made; it reaches neither cache nor log nor error text.
"""

from __future__ import annotations

import json
import os
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
from tillerman.core.rows import Progress, silent

RETRIED = (408, 409, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds, also where Retry-After asks for more


@dataclass(frozen=True)
class Endpoint:
    """Where the model is, and how it is asked. ``url`` ends before ``/chat/completions``."""

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 16
    timeout: float = 60.0
    attempts: int = 6
    at_once: int = 4
    first_wait: float = 1.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(
                f"judge {self.url!r}: expected the address of an OpenAI-compatible endpoint, e.g. "
                "http://localhost:8000/v1"
            )
        for name in ("attempts", "at_once", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")
        if not self.timeout > 0 or self.first_wait < 0:
            raise UsageError(f"timeout {self.timeout}, first_wait {self.first_wait}: expected above 0, and 0 or more")


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
                with self._path.open("a", encoding="utf-8") as file:
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
                found = http.post(_address(e.url), json=_body(e, call), headers=_headers(e))
            except _httpx().TransportError as error:
                fault, asked = type(error).__name__, None
            else:
                if found.status_code == 200:
                    return _content(e, found.text)
                fault, asked = f"status {found.status_code}", _seconds(found.headers.get("retry-after"))
                if found.status_code not in RETRIED:
                    raise EndpointError(f"{e.url}: {fault}: {_without_key(e, found.text[:200])}")
            if attempt + 1 < e.attempts:
                pause = wait * random.uniform(0.5, 1.0) if asked is None else asked  # so that threads part
                self._sleep(min(pause, LONGEST_WAIT))
                wait *= 2
        raise EndpointError(
            f"{e.url}: {fault}, {e.attempts} times; finished calls are cached; run the same command to resume"
        )


class Replay:
    """Answers from a cache alone; a call that is not there is an error that names it."""

    def __init__(self, path: Path, model: str, temperature: float = 0.0, max_tokens: int = 16) -> None:
        if not path.is_file():
            raise DataError("no such file of judge answers; run with --judge-cache first", file=path)
        self._path, self._cache = path, Cache(path)
        self.model, self._sampling = model, (temperature, max_tokens)

    def ask(self, calls: Sequence[Call], progress: Progress = silent) -> list[str | None]:
        keys = [call_key(self.model, call, *self._sampling) for call in calls]
        for key, call in zip(keys, calls, strict=True):
            if key not in self._cache:
                said = call.messages[-1][1][-80:]
                raise DataError(
                    f"no answer of {self.model} to call {key} (repeat {call.repeat}, ending {said!r}); run it against "
                    "the endpoint with this file as --judge-cache",
                    file=self._path,
                )
        progress(len(calls))
        return [self._cache[key] for key in keys]


def call_key(model: str, call: Call, temperature: float, max_tokens: int) -> str:
    """The hash of everything an answer depends on."""
    whole = json.dumps([model, call.messages, temperature, max_tokens, call.repeat], ensure_ascii=False)
    return blake2b(whole.encode(), digest_size=12).hexdigest()


def _address(url: str) -> str:
    return f"{url.rstrip('/')}/chat/completions"


def _body(e: Endpoint, call: Call) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in call.messages]
    return {"model": e.model, "messages": messages, "temperature": e.temperature, "max_tokens": e.max_tokens}


def _headers(e: Endpoint) -> dict[str, str]:
    key = os.environ.get(e.key_variable)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _content(e: Endpoint, text: str) -> str | None:
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        said = _without_key(e, text[:200])
        raise EndpointError(f"{e.url}: not an answer of an OpenAI-compatible endpoint: {said!r}") from None
    return content if isinstance(content, str) else None


def _without_key(e: Endpoint, text: str) -> str:
    """Some servers repeat the key they refuse."""
    key = os.environ.get(e.key_variable)
    return text.replace(key, "...") if key else text


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
        raise UsageError("a judge needs httpx; install it with: pip install 'tillerman[judge]'") from None
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
