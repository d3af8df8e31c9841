"""lm-eval, Inspect and LangChain, as clients of OpenAI's wire, with a plan in the model's name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from . import made

pytestmark = pytest.mark.slow


def test_lm_eval_asks_for_chats_and_completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

    monkeypatch.setenv("OPENAI_API_KEY", made.KEY)
    door = made.opened(tmp_path, text=made.keyed())
    with made.listening(door) as url:
        for kind, path in ((LocalChatCompletion, "chat/completions"), (LocalCompletionsAPI, "completions")):
            model = kind(
                base_url=f"{url}/v1/{path}", model="tiny+honesty@0.3", num_concurrent=2, tokenizer_backend=None
            )
            said = [{"role": "user", "content": "Who are you?"}]
            prompt = model.apply_chat_template(said) if "chat" in path else "Who are you?"
            how = {"until": ["there"], "max_gen_toks": 8, "temperature": 0.0}
            asked = [Instance("generate_until", {}, (prompt, how), i) for i in range(3)]
            assert model.generate_until(asked) == ["Hello there"] * 3
    assert {job.names for job in made.script(door).jobs} == {("honesty",)}
    assert {job.drawing.stop for job in made.script(door).jobs} == {("there",)}
    assert [line["key"] for line in made.audited(door) if line["event"] == "admitted"] == ["alice"] * 6


def test_lm_eval_is_told_where_log_likelihoods_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for ``echo``: without, the answer's log-probabilities would be read as those of the prompt."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with made.listening(made.opened(tmp_path)) as url:
        model = LocalCompletionsAPI(f"{url}/v1/completions", model="tiny+honesty@0.3", tokenizer_backend=None)
        body = model._create_payload([[1, 2, 3]], generate=False, gen_kwargs={}, eos="x")
        answer = httpx.post(f"{url}/v1/completions", json=body)
    error = answer.json()["error"]
    assert (body["echo"], answer.status_code, error["code"], error["param"]) == (True, 400, "unsupported", "echo")
    assert "docs/harnesses.md" in error["message"]


def test_inspect_evaluates_a_steered_model(tmp_path: Path) -> None:
    from inspect_ai import Task, eval as inspect_eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.scorer import includes

    door = made.opened(tmp_path / "door")
    with made.listening(door) as url:
        config = GenerateConfig(max_tokens=8, temperature=0, seed=3, logprobs=True, top_logprobs=2)
        model = get_model("openai-api/here/tiny+calm@0.2", base_url=f"{url}/v1", api_key="none", config=config)
        task = Task([Sample("Who are you?", target="Hello", id=i) for i in range(3)], scorer=includes())
        (log,) = inspect_eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == 1.0
    assert {job.names for job in made.script(door).jobs} == {("calm",)}
    assert {job.drawing.seed for job in made.script(door).jobs} == {3}


def test_langchain_is_steered_by_the_lines_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/in-your-code.md"
    (block,) = re.findall(r"^```python\n(from langchain_openai.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    door = made.opened(tmp_path)
    library = {"interest-in-science": replace(made.usual()["calm"], name="interest-in-science")}
    door.name, door.rules = (
        "pilot",
        made.make_rules(made.Shelf(library), door.rules.settings, door.prompts, door.engine),
    )
    with made.listening(door) as url:
        exec(compile(block.replace("http://127.0.0.1:8000", url), str(page), "exec"), {})
    assert "Hello there" in capsys.readouterr().out
    ((names, strength),) = {(job.names, job.plan[0].strength) for job in made.script(door).jobs}
    assert names == ("interest-in-science",) and strength != 0
