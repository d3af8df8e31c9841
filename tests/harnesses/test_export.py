"""Items as task folders: what stands in them, what cannot be exported, and the command."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.errors import DataError, UsageError
from tillerman.data.duplicates import clean_split
from tillerman.data.examples import Example
from tillerman.data.loading import load_examples
from tillerman.data.presenting import present
from tillerman.data.writing import Writer, make_writer
from tillerman.harnesses.export import export_task
from tillerman.harnesses.lm_task import accuracy, items as read_items
from tillerman.models.opened import open_model

from .. import tiny

CHOICE = Example("choice", "What is a fruit?", ("apple", "stone"), 0)
TOLD_BY_FIRST = Example("yes_no", "Which?", ("mat of the cat", "sun"), 0)
SHARED_START = Example("yes_no", "Which?", ("river bank", "river bed"), 1)


class Merging(Writer):
    """Makes one token of every text, whatever it goes on after."""

    def encode(self, text: str) -> tuple[int, ...]:
        return (10 + len(text) % 100,)


def rows_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("chat", [None, tiny.CHAT], ids=["plain", "chat"])
def test_a_row_has_the_writers_prompt_and_the_tokens_that_decide(tmp_path, chat):
    tokenizer = tiny.tokenizer(chat)
    writer = make_writer(tokenizer).with_system("Be short.")
    shown = present([CHOICE, TOLD_BY_FIRST, SHARED_START])
    written = export_task(shown, writer.with_shots(present([CHOICE])), tmp_path / "new", "my_items")
    assert sorted(path.name for path in written) == ["inspect_task.py", "items.jsonl", "lm_task.py", "my_items.yaml"]
    for row, item in zip(rows_of(tmp_path / "new"), shown, strict=True):
        wanted = writer.with_shots(present([CHOICE])).write(item)
        assert (row["id"], row["right"], row["answers"]) == (item.example.id, item.right, list(item.answers))
        assert tuple(tokenizer(row["prompt"])["input_ids"]) == wanted.prompt
        scored = [answer if wanted.whole else answer[:1] for answer in wanted.answers]
        assert row["tokens"] == [len(tokens) for tokens in scored]
        together = [tuple(tokenizer(row["prompt"] + choice)["input_ids"]) for choice in row["choices"]]
        assert together == [wanted.prompt + tokens for tokens in scored]
        assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "user"]
        assert row["messages"][-1]["content"] == item.prompt
    assert [max(row["tokens"]) > 1 for row in rows_of(tmp_path / "new")] == [False, False, True]


def test_the_best_mean_per_token_is_right_and_what_is_no_number_is_not():
    doc = {"tokens": [1, 4], "right": 1}
    assert accuracy(doc, [(-2.0, False), (-4.0, False)]) == {"acc": 1.0}
    assert accuracy(doc, [(-0.5, False), (-4.0, False)]) == {"acc": 0.0}
    wrecked = [(-2.0, False), (float("nan"), False)]
    assert accuracy({"tokens": [1, 4], "right": 0}, wrecked) == {"acc": 0.0}


def test_lm_eval_reads_the_items_in_their_order(tmp_path, monkeypatch):
    shown = present(load_examples("sample:mmlu").examples[:5])
    export_task(shown, make_writer(open_model("pilot").tokenizer), tmp_path, "mmlu")
    monkeypatch.setattr("tillerman.harnesses.lm_task.__file__", str(tmp_path / "lm_task.py"))
    assert [row["id"] for row in read_items(pretrained="pilot")["test"]] == [item.example.id for item in shown]


def test_what_cannot_be_exported_says_why(tmp_path):
    writer = make_writer(tiny.tokenizer())
    for example in (Example("open", "What is 1+1?", ("2",), 0), Example("text", "", ("a text", "b text"), 0)):
        with pytest.raises(DataError, match=f"items of kind '{example.kind}' have no options to choose from"):
            export_task(present([example]), writer, tmp_path, "name")
    with pytest.raises(DataError, match="no items to export"):
        export_task((), writer, tmp_path, "name")
    with pytest.raises(UsageError, match="task name 'a/b': expected letters"):
        export_task(present([CHOICE]), writer, tmp_path, "a/b")
    with pytest.raises(DataError, match=r"gives other tokens for '.*Answer:' and '.*' together than for each alone"):
        export_task(present([CHOICE]), Merging(tiny.tokenizer(), "none"), tmp_path, "name")


def test_the_command_writes_the_items_that_eval_would_test(tmp_path):
    data = ["sample:ethics-deontology", "--limit", "60"]
    done = CliRunner().invoke(app, ["export-task", *data, "-o", str(tmp_path / "out"), "--seed", "3"])
    assert done.exit_code == 0, done.output
    split = clean_split(load_examples("sample:ethics-deontology", limit=60).examples, seed=3)
    shown = present(split.test, 3)
    assert [(row["id"], row["right"]) for row in rows_of(tmp_path / "out")] == [(i.example.id, i.right) for i in shown]
    assert (tmp_path / "out" / "ethics_deontology.yaml").is_file()
    again = CliRunner().invoke(app, ["export-task", *data, "-o", str(tmp_path / "out")])
    assert isinstance(again.exception, UsageError)
    whole = ["--all-items", "--as-choice", "--system", "Be fair."]
    assert CliRunner().invoke(app, ["export-task", *data, "-o", str(tmp_path / "all"), *whole]).exit_code == 0
    rows = rows_of(tmp_path / "all")
    assert len(rows) == 60
    assert {tuple(row["answers"]) for row in rows} == {("A", "B")}
    assert all("Be fair." in row["prompt"] for row in rows)
