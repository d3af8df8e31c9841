"""A fuzzer over requests to the server: whatever is sent, the answer is OpenAI's form of a refusal, or a right answer.

``python -m tests.fuzz.requests --requests 10000 --seed 7`` makes a larger run than the test does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tillerman.serving.http.app import create_app
from tillerman.serving.refusals import CODES

from ..serving import made

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_SAMPLING = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "n": 2, "seed": 4, "max_tokens": 5, "stop": ["x"]}
_MORE = {"presence_penalty": 1, "frequency_penalty": 1, "logit_bias": {"5": 1}, "stream": False, "user": "u"}
_PLAN = [{"artefact": "honesty", "dose": 0.4, "scope": "all"}, "calm@0.1:last"]
_SAID = [{"role": "system", "content": "Be."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
BODIES: Mapping[str, Mapping[str, Any]] = {
    CHAT: {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        "steering": _PLAN,
        "logprobs": True,
        "top_logprobs": 2,
        **_SAMPLING,
        **_MORE,
    },
    TEXT: {"model": "tiny+calm@0.1", "prompt": ["the cat", "the dog"], "logprobs": 1, **_SAMPLING, **_MORE},
}
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**31, 2**64, -(10**400), 1e308, "", "x", "\ud800", "\x00", "../../etc/passwd",
    "http://x", "{{7*7}}", "honesty@", "honesty@1e999", "positions:" + "9" * 30, [], {}, [[]], [None], {"": {}},
    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "a" * 5000, [1] * 300,
)  # fmt: skip


def mutant(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """Route, body, headers: a good request with up to four faults in it."""
    path = chance.choice(list(BODIES))
    body = deepcopy(dict(BODIES[path]))
    for _ in range(chance.randint(1, 4)):
        _spoil(body, chance)
    raw = json.dumps(body).encode()
    if chance.random() < 0.15:  # the text itself
        at = chance.randrange(len(raw))
        raw = raw[:at] + bytes(chance.randrange(256) for _ in range(chance.randint(0, 3))) + raw[at + 1 :]
    kinds = ("application/json",) * 8 + ("text/plain", "application/json; charset=utf-16")
    headers = {"content-type": chance.choice(kinds)}
    if chance.random() < 0.1:
        headers["x-tillerman-steering"] = (
            chance.choice(["calm", "", "calm@@", "nobody", "honesty@9", "\xff"]).encode("latin-1").decode("latin-1")
        )
    return path, raw, headers


def _spoil(value: Any, chance: random.Random) -> None:
    """One change somewhere in a tree of lists and objects, in place."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys or chance.random() < 0.2:
            break
        key = chance.choice(keys)
        if not isinstance(value[key], dict | list) or chance.random() < 0.3:
            if isinstance(value, dict) and chance.random() < 0.2:
                del value[key]
            else:
                value[key] = deepcopy(chance.choice(JUNK))
            return
        value = value[key]
    if isinstance(value, dict):
        value[chance.choice(["tools", "steeering", "x", "best_of", "stream_options", "", "name"])] = chance.choice(JUNK)
    else:
        value.append(deepcopy(chance.choice(JUNK)))


def sent(client: TestClient, path: str, raw: bytes, headers: Mapping[str, str]) -> str:
    """How it ended: ``200``, or the code of a refusal. ``AssertionError`` for any other answer."""
    answer = client.post(path, content=raw, headers={key: value.encode("latin-1") for key, value in headers.items()})
    if answer.status_code == 200:
        assert b'"steering"' in answer.content, answer.text[:500]
        return "200"
    error = answer.json()["error"]
    assert answer.status_code == CODES[error["code"]][0] and len(error["message"]) <= 610, answer.text[:500]
    assert "etc/passwd" not in error["message"] or error["code"] in ("unknown_artefact", "malformed", "model_not_found")
    return str(error["code"])


def run(requests: int, seed: int, folder: Path) -> Counter[str]:
    client = TestClient(create_app(made.opened(folder, audited=False)), raise_server_exceptions=True)
    chance = random.Random(seed)
    return Counter(sent(client, *mutant(chance)) for _ in range(requests))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for end, count in run(given.requests, given.seed, Path(folder)).most_common():
            sys.stdout.write(f"{end}: {count}\n")


if __name__ == "__main__":
    main()
