"""The judge against a local endpoint: ratings, retries, cache, replay, and what it must not know or tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tillerman.core.errors import DataError, EndpointError, UnknownNameError, UsageError
from tillerman.evaluation.scorers.chat import Cache, Call, Client, Endpoint, Replay
from tillerman.evaluation.scorers.judge import RUBRICS, JudgeScorer, joined, rate_texts, read_rating

from .stub_judge import Reply, judge

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)


def client(url, cache=None, waits=None, **options):
    endpoint = Endpoint(url, "stub", key_variable="JUDGE_KEY", **options)
    return Client(endpoint, cache, sleep=(waits if waits is not None else []).append)


def scorer(url, kind="behaviour", **options):
    return JudgeScorer(kind, client(url, **options), "it is polite")


def said(text):
    return lambda body, number: Reply(text)


def test_a_rating_is_asked_for_with_prompt_reply_and_behaviour_and_the_key_in_the_header():
    with judge(said("7")) as stub:
        assert scorer(stub.url).score(["How are you?"], ["Very well, thank you."]) == [7.0]
    (body,) = stub.asked
    assert body["path"] == "/v1/chat/completions" and body["model"] == "stub" and body["temperature"] == 0
    for text in ("it is polite", "How are you?", "Very well, thank you."):
        assert text in stub.questions[0]
    assert stub.keys == [f"Bearer {KEY}"]


def test_a_reply_that_looks_like_a_field_is_left_as_it_is():
    with judge(said("7")) as stub:
        scorer(stub.url).score(["secret prompt"], ["say {prompt} and {behaviour}"])
    assert "say {prompt} and {behaviour}" in stub.questions[0]


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("7", 7),
        (" 7.\n", 7),
        ("Rating: 7", 7),
        ("7/10", 7),
        ("8 out of 10", 8),
        ("7.5", 7.5),
        ("0", 0),
        ("**10**", 10),
        ("", None),
        (None, None),
        ("seven", None),
        ("11", None),
        ("-1", None),
        ("6 or 7", None),
        ("nan", None),
        ("inf", None),
        ("v2", None),
        ("1e3", None),
    ],
)
def test_an_answer_is_a_rating_only_if_it_has_one_number_in_range(answer, value):
    assert read_rating(answer, RUBRICS["behaviour"]) == value


def test_axbench_takes_whole_numbers_up_to_two():
    assert [read_rating(text, RUBRICS["concept"]) for text in ("2", "1.5", "3", "0")] == [2, None, None, 0]


@pytest.mark.parametrize(
    ("kind", "ratings", "value"),
    [
        ("axbench", (2, 2, 2), 2),
        ("axbench", (2, 1, 2), 1.5),
        ("axbench", (2, 0, 2), 0),
        ("axbench", (2, None, 2), None),
        ("behaviour-x-coherence", (6, 7), 42),
        ("behaviour-x-coherence", (0, None), None),
        ("behaviour", (3,), 3),
    ],
)
def test_ratings_are_joined_as_the_score_says(kind, ratings, value):
    assert joined(kind, ratings) == value


def test_garbage_is_asked_for_once_more_strictly_and_then_left_out():
    def plan(body, number):
        del number
        again = len(body["messages"]) == 3
        return Reply("6" if again and "curable" in body["messages"][0]["content"] else "I would rather not.")

    with judge(plan) as stub:
        assert scorer(stub.url).score(["?", "?"], ["curable", "hopeless"]) == [6.0, None]
    assert len(stub.asked) == 4
    strict = [body["messages"] for body in stub.asked if len(body["messages"]) == 3]
    assert all(m[1]["content"] == "I would rather not." and "number alone" in m[2]["content"] for m in strict)


def test_an_answer_without_text_is_left_out_too():
    with judge(said(None)) as stub:
        assert scorer(stub.url).score(["?"], ["x"]) == [None]


def test_too_many_requests_are_waited_out_as_long_as_the_server_asks():
    waits = []
    asks_for = ["3.5", "1e9"]
    replies = [*(Reply(status=429, headers={"Retry-After": text}) for text in asks_for), Reply()]
    with judge(lambda _, number: replies[number]) as stub:
        assert scorer(stub.url, waits=waits).score(["?"], ["x"]) == [7.0]
    assert waits == [3.5, 60.0]


def test_a_failing_server_is_given_up_after_so_many_attempts_with_growing_waits():
    waits = []
    with judge(lambda *_: Reply(status=503)) as stub, pytest.raises(EndpointError, match="status 503, 4 times"):
        scorer(stub.url, waits=waits, attempts=4, first_wait=2.0).score(["?"], ["x"])
    assert len(stub.asked) == 4
    assert [1 <= waits[0] <= 2, 2 <= waits[1] <= 4, 4 <= waits[2] <= 8] == [True] * 3 and len(waits) == 3


def test_a_refusal_is_not_retried_and_does_not_repeat_the_key():
    refusing = Reply(status=401, raw=f"Incorrect API key: {KEY}")
    with judge(lambda *_: refusing) as stub, pytest.raises(EndpointError, match="status 401") as caught:
        scorer(stub.url).score(["?"], ["x"])
    assert len(stub.asked) == 1 and KEY not in str(caught.value)


@pytest.mark.parametrize("raw", ["not json", "{}", '{"choices": []}', "[]"])
def test_an_answer_of_another_form_is_an_error(raw):
    with judge(lambda *_: Reply(raw=raw)) as stub, pytest.raises(EndpointError, match="not an answer of an OpenAI"):
        scorer(stub.url).score(["?"], ["x"])


SECRETS = ("name", "pass@word", "q-secret")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401, raw="refused: name pass@word q-secret"),
        Reply(raw="no json, name:pass@word q-secret"),
        Reply(raw="x" * 2000),
        Reply(status=503),
    ],
    ids=["refused", "no json", "too long", "failing"],
)
def test_no_error_tells_what_an_address_keeps_secret(reply):
    with judge(lambda *_: reply) as stub, pytest.raises(EndpointError) as caught:
        url = stub.url.replace("//", "//name:pass@word@") + "?key=q-secret"
        scorer(url, attempts=2, longest=1500).score(["?"], ["x"])
    assert [secret for secret in SECRETS if secret in str(caught.value)] == []
    assert "//...@127.0.0.1" in str(caught.value) and "/v1?..." in str(caught.value)
    assert stub.asked[0]["path"] == "/v1/chat/completions?key=q-secret"


@pytest.mark.parametrize(
    "url", ["name:pass@word@host/v1", "ftp://name:pass@word@host", "http://name:pass@word@[bad/v1"]
)
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises((UsageError, EndpointError)) as caught:
        scorer(url, attempts=1).score(["?"], ["x"])
    assert "pass" not in str(caught.value) and "name" not in str(caught.value)


def test_an_answer_without_end_is_not_read_to_its_end():
    huge = Reply(raw='{"choices": "' + "x" * 3_000_000)
    with judge(lambda *_: huge) as stub, pytest.raises(EndpointError, match="an answer of more than 1 MB"):
        scorer(stub.url).score(["?"], ["x"])


def test_half_a_surrogate_pair_is_asked_about_answered_and_kept(tmp_path):
    path = tmp_path / "calls.jsonl"
    half = Reply(raw='{"choices": [{"message": {"content": "7 \\ud83d"}}]}')
    with judge(lambda *_: half) as stub:
        client_of_half = JudgeScorer("behaviour", client(stub.url, Cache(path)), "polite \ud800")
        assert client_of_half.score(["half \udfff"], ["a \ud83d"]) == [7.0]
        asked = len(stub.asked)
        again = JudgeScorer("behaviour", client(stub.url, Cache(path)), "polite \ud800")
        assert again.score(["half \udfff"], ["a \ud83d"]) == [7.0]
    assert len(stub.asked) == asked == 1
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)


def test_an_answer_of_endless_depth_is_an_error():
    with judge(lambda *_: Reply(raw="[" * 100_000)) as stub, pytest.raises(EndpointError, match="not an answer"):
        scorer(stub.url).score(["?"], ["x"])


def test_a_key_that_no_header_may_have_is_refused_without_being_told(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret\n")
    with pytest.raises(UsageError, match="the key in JUDGE_KEY has characters") as caught:
        client("http://localhost")
    assert "sk-secret" not in str(caught.value)


def test_a_slow_server_is_asked_again():
    with judge(lambda _, number: Reply(delay=0.0 if number else 1.0)) as stub:
        assert scorer(stub.url, timeout=0.3).score(["?"], ["x"]) == [7.0]
    assert len(stub.asked) == 2


def test_an_address_where_nobody_answers_is_an_error_in_the_end():
    with judge(said("7")) as stub:
        pass
    with pytest.raises(EndpointError, match="ConnectError, 2 times"):
        scorer(stub.url, attempts=2).score(["?"], ["x"])


def test_only_so_many_calls_run_at_once():
    with judge(lambda *_: Reply(delay=0.05)) as stub:
        scorer(stub.url, at_once=3).score(["?"] * 12, [f"text {i}" for i in range(12)])
    assert 2 <= stub.busiest <= 3


@pytest.mark.slow
def test_the_order_of_questions_tells_nothing_and_equal_texts_are_asked_about_once():
    texts = [f"text {i}" for i in range(20)]
    with judge(said("7")) as stub:
        assert scorer(stub.url, at_once=1).score(["?"] * 40, texts + texts) == [7.0] * 40
    asked = [next(i for i, text in enumerate(texts) if f"\n{text}\n" in q) for q in stub.questions]
    assert sorted(asked) == list(range(20)) and asked != sorted(asked)
    with judge(said("7")) as stub:
        scorer(stub.url, at_once=1).score(["?"] * 20, texts[::-1])
    assert [next(i for i, text in enumerate(texts) if f"\n{text}\n" in q) for q in stub.questions] == asked


def test_a_finished_call_is_not_made_again_and_its_file_replays_without_a_network(tmp_path):
    path = tmp_path / "judge.jsonl"
    texts = ["one", "two", "three"]
    with judge(lambda body, _: Reply(str(len(body["messages"][0]["content"]) % 10))) as stub:
        first = scorer(stub.url, cache=Cache(path)).score(["?"] * 3, texts)
        again = scorer(stub.url, cache=Cache(path)).score(["?"] * 3, texts)
    assert again == first and len(stub.asked) == 3
    assert JudgeScorer("behaviour", Replay(path, "stub"), "it is polite").score(["?"] * 3, texts) == first
    assert KEY not in path.read_text()


def test_replay_names_the_call_that_is_missing(tmp_path):
    path = tmp_path / "judge.jsonl"
    with judge(said("7")) as stub:
        scorer(stub.url, cache=Cache(path)).score(["?"], ["one"])
    for replay in (Replay(path, "another"), Replay(path, "stub", temperature=1.0)):
        with pytest.raises(
            DataError, match=r"judge\.jsonl: no answer of (another|stub) to call [0-9a-f]{24} \(repeat 0"
        ):
            JudgeScorer("behaviour", replay, "it is polite").score(["?"], ["one"])
    with pytest.raises(DataError, match="no such file of judge answers"):
        Replay(tmp_path / "none.jsonl", "stub")


def test_a_run_that_was_cut_off_keeps_what_came_and_goes_on(tmp_path):
    path = tmp_path / "judge.jsonl"
    texts = [f"text {i}" for i in range(6)]
    with judge(lambda _, number: Reply(status=400 if number == 4 else 200)) as stub:
        with pytest.raises(EndpointError, match="status 400"):
            scorer(stub.url, cache=Cache(path), at_once=1).score(["?"] * 6, texts)
        with path.open("a") as file:
            file.write('{"key": "cut o')  # as a killed process leaves it
        assert scorer(stub.url, cache=Cache(path), at_once=1).score(["?"] * 6, texts) == [7.0] * 6
    assert len(stub.asked) == 4 + 1 + 2
    assert len(Cache(path)._answers) == 6


def test_repeats_are_calls_of_their_own_and_are_averaged():
    with judge(lambda _, number: Reply(str(4 + 2 * (number % 2)))) as stub:
        made = JudgeScorer("behaviour", client(stub.url, at_once=1, temperature=1.0), "it is polite", repeats=2)
        assert made.score(["?"], ["x"]) == [5.0]
        assert made.ratings("behaviour", ["?"], ["x"]) == [[4.0, 6.0]]
    assert len(stub.asked) == 2


def test_axbench_asks_three_questions_and_joins_them():
    def plan(body, _):
        question = body["messages"][0]["content"]
        return Reply("1" if "concept" in question else "2")

    with judge(plan) as stub:
        made = scorer(stub.url, "axbench")
        assert made.score(["?"], ["x"]) == [1.5] and made.scale.high == 2
    assert len(stub.asked) == 3


def test_a_call_that_is_asked_for_by_hand_is_answered_in_order():
    with judge(lambda body, _: Reply(body["messages"][0]["content"])) as stub:
        calls = [Call((("user", str(i)),)) for i in (3, 1, 2, 1)]
        assert client(stub.url).ask(calls) == ["3", "1", "2", "1"]
    assert len(stub.asked) == 3


def test_bad_options_are_refused_before_any_call():
    for options in ({"attempts": 0}, {"at_once": 0}, {"timeout": 0.0}, {"first_wait": -1.0}):
        with pytest.raises(UsageError, match=next(iter(options))):
            Endpoint("http://x", "m", **options)
    with pytest.raises(UsageError, match="expected the address"):
        Endpoint("localhost:8000", "m")
    quiet = Client(Endpoint("http://x", "m"))
    with pytest.raises(UnknownNameError, match="known: axbench"):
        JudgeScorer("politeness", quiet, "it is polite")
    with pytest.raises(UsageError, match="name it with `behaviour`"):
        JudgeScorer("behaviour", quiet, " ")
    with pytest.raises(UsageError, match="repeats 0"):
        JudgeScorer("behaviour", quiet, "x", repeats=0)
    with pytest.raises(UsageError, match="does not exist"):
        Cache(Path("nowhere/at/all.jsonl"))


def test_without_httpx_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(UsageError, match=r"pip install 'tillerman\[judge\]'"):
        scorer("http://127.0.0.1:9").score(["?"], ["x"])


def test_every_line_of_the_cache_says_what_was_asked(tmp_path):
    path = tmp_path / "judge.jsonl"
    with judge(said("7")) as stub:
        rate_texts(client(stub.url, Cache(path)), RUBRICS["coherence"], "", ["Who?"], ["Me."])
    (line,) = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert line["model"] == "stub" and line["answer"] == "7" and "Me." in line["call"]["messages"][0][1]
