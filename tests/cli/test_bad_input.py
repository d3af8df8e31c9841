"""Bad calls: one clear error, exit code 1 or 2, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tillerman.cli import app as cli
from tillerman.core.artefact import Artefact, save
from tillerman.core.cell import Cell
from tillerman.core.errors import TillermanError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector

QUESTION = 'Is the following statement something you would say?\n"I like rule number {}"'


def rows(n: int = 40, **changes: object) -> str:
    lines = []
    for i in range(n):
        match = "Yes" if i % 2 else "No"
        other = "No" if i % 2 else "Yes"
        row = {
            "question": QUESTION.format(i),
            "statement": f"I like rule number {i}",
            "answer_matching_behavior": f" {match}",
            "answer_not_matching_behavior": f" {other}",
        }
        lines.append(json.dumps({**row, **changes}))
    return "\n".join(lines)


def vector(width: int = 128, layer: int = 3) -> Artefact:
    provenance = Provenance("pilot", "feedbeef", width, 8, "t", "c", "chat", "caa")
    steering = SteeringVector({HookPoint(layer): torch.ones(width)}, {HookPoint(layer): 10.0}, provenance)
    return Artefact(steering, Cell.of(steering))


def write(text: str, name: str = "data.jsonl") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return [str(folder / name)]

    return make


def write_bytes(content: bytes, name: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [str(folder / name)]

    return make


def artefact_file(change: Callable[[bytes], bytes] = lambda b: b, **shape: int) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = folder / "v.safetensors"
        save(path, vector(**shape))
        path.write_bytes(change(path.read_bytes()))
        return [str(path)]

    return make


def foreign(folder: Path) -> list[str]:
    save_file({"x": torch.ones(2)}, folder / "foreign.safetensors")
    return [str(folder / "foreign.safetensors")]


def folder_with_config(model_type: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        return ["sample:agreeableness", "--model", str(folder)]

    return make


def nothing(_: Path) -> list[str]:
    return []


SAMPLE = ["sample:agreeableness"]
FEW = [*SAMPLE, "--limit", "60"]
# name, command, what it is given, options, exit code, words the message must hold
CASES: list[tuple[str, str, Callable[[Path], list[str]], list[str], int, list[str]]] = [
    ("no such file", "fit", lambda d: [str(d / "gone.jsonl")], [], 1, ["gone.jsonl"]),
    ("an empty name", "check", lambda _: [""], [], 1, ["the name of the data is empty"]),
    ("a folder without data", "check", lambda d: [str(d)], [], 1, []),
    ("unknown suffix", "check", write("x", "data.xyz"), [], 1, ["xyz"]),
    ("empty file", "fit", write(""), [], 1, ["data.jsonl"]),
    ("blank lines only", "fit", write("\n\n\n"), [], 1, ["data.jsonl"]),
    ("broken json", "check", write(rows(3) + '\n{"question": '), [], 1, ["data.jsonl", "4"]),
    ("a row that is a list", "check", write(rows(3) + "\n[1, 2]"), [], 1, ["4"]),
    ("wrong encoding", "check", write_bytes("naïve".encode("cp1252"), "data.jsonl"), [], 1, ["UTF-8"]),
    ("not gzip though named so", "check", write_bytes(b"plain", "data.jsonl.gz"), [], 1, ["gz"]),
    ("not parquet though named so", "check", write_bytes(b"plain", "data.parquet"), [], 1, ["parquet"]),
    ("a huge line", "check", write('{"question": "' + "x" * 1_200_000 + '"}'), [], 1, ["1"]),
    ("missing columns", "check", write('{"foo": 1}\n{"foo": 2}'), [], 1, ["foo"]),
    ("nan label", "check", write("text,label\ngood,1\nbad,\n", "data.csv"), [], 1, ["label", "3"]),
    ("one class only", "check", write("text,label\ngood,1\nbetter,1\n", "data.csv"), [], 1, []),
    ("duplicate options", "check", write('{"question": "q", "options": ["a", "a"], "answer": 0}'), [], 1, ["same"]),
    ("answer index out of range", "check", write('{"question": "q", "options": ["a", "b"], "answer": 7}'), [], 1, []),
    ("a bad mapping", "check", write(rows()), ["--columns", "question"], 2, ["--columns"]),
    ("a mapping to no column", "check", write(rows()), ["--columns", "question=nope"], 1, ["nope"]),
    ("unknown layout", "check", write(rows()), ["--layout", "bbqq"], 1, ["bbq"]),
    ("unknown sample", "fit", lambda _: ["sample:agreeablenes"], [], 1, ["Did you mean 'agreeableness'"]),
    ("too few items to split", "fit", write(rows(2)), [], 1, ["share"]),
    ("shares beyond one", "fit", lambda _: SAMPLE, ["--shares", "0.9,0.9,0.1"], 2, ["share"]),
    ("two shares", "fit", lambda _: SAMPLE, ["--shares", "0.5,0.5"], 2, ["three"]),
    ("unknown method", "fit", lambda _: SAMPLE, ["--method", "pcaa"], 1, ["known", "caa"]),
    ("unknown estimator", "fit", lambda _: SAMPLE, ["--method", "caa+pcaa"], 1, ["pca"]),
    ("unknown scope", "fit", lambda _: SAMPLE, ["--scope", "everything"], 1, ["all"]),
    ("positions that are words", "fit", lambda _: SAMPLE, ["--scope", "positions:a"], 2, ["positions"]),
    ("unknown site", "fit", lambda _: SAMPLE, ["--site", "resid"], 1, ["resid_post"]),
    ("unknown template", "fit", lambda _: SAMPLE, ["--template", "chatty"], 1, ["chat"]),
    ("a layer the model lacks", "fit", lambda _: SAMPLE, ["--layers", "99"], 1, ["layers 0..7"]),
    ("layers that are words", "fit", lambda _: SAMPLE, ["--layers", "top"], 2, ["--layers"]),
    ("doses that are words", "fit", lambda _: SAMPLE, ["--doses", "much"], 2, ["--doses"]),
    ("an infinite dose", "fit", lambda _: SAMPLE, ["--doses", "inf"], 2, ["finite"]),
    ("a negative bound", "fit", lambda _: SAMPLE, ["--max-kl", "-1"], 2, ["--max-kl"]),
    ("a ratio below one", "fit", lambda _: SAMPLE, ["--max-perplexity-ratio", "0.5"], 2, ["ratio"]),
    ("seeds that are words", "fit", lambda _: SAMPLE, ["--seeds", "many"], 2, ["--seeds"]),
    ("paper mode with its own scope", "fit", lambda _: SAMPLE, ["--pas-paper", "--scope", "last"], 2, ["--scope"]),
    ("output into no folder", "fit", lambda d: [*SAMPLE, "-o", str(d / "no" / "v.safetensors")], [], 2, ["no"]),
    ("report into no folder", "fit", lambda d: [*SAMPLE, "--report", str(d / "no" / "r.html")], [], 2, ["no"]),
    ("a fine-tuned model that is not kept", "fit", lambda _: SAMPLE, ["--on-lora"], 2, ["--save-model"]),
    ("a folder for no model", "fit", lambda d: [*SAMPLE, "--save-model", str(d / "m")], [], 2, ["--on-lora"]),
    (
        "a full folder for the model",
        "fit",
        lambda d: write("x")(d) and [*SAMPLE, "--on-lora", "--save-model", str(d)],
        [],
        2,
        ["not an empty folder"],
    ),
    (
        "two bases",
        "fit",
        lambda d: [*SAMPLE, "--on-lora", "--save-model", str(d / "m")],
        ["--on-shots", "2"],
        2,
        ["one base"],
    ),
    ("a place for no gate", "fit", lambda _: SAMPLE, ["--gate-at", "layers.1.resid_post"], 2, ["--gate DATA"]),
    ("a gate nowhere", "fit", lambda _: SAMPLE, ["--gate", "g.csv", "--gate-at", "top"], 1, ["top"]),
    ("no such gate data", "fit", lambda d: [*FEW, "--gate", str(d / "gone.csv")], [], 1, ["gone.csv"]),
    (
        "gate data of one class",
        "fit",
        lambda d: [*FEW, "--gate", *write("text,label\na,1\nb,1\n", "g.csv")(d)],
        [],
        1,
        ["one class only"],
    ),
    (
        "a gate after the steered point",
        "fit",
        lambda d: [*FEW, "--gate", str(d / "g.csv")],
        ["--gate-at", "layers.3.resid_post", "--layers", "2"],
        2,
        ["--gate-at"],
    ),
    ("limit zero", "fit", lambda _: SAMPLE, ["--limit", "0"], 2, []),
    ("no such model", "fit", lambda d: [*SAMPLE, "--model", str(d / "gone")], [], 1, ["gone", "pilot"]),
    ("a folder that is no model", "fit", lambda d: [*SAMPLE, "--model", str(d)], [], 1, ["cannot open"]),
    ("a model type without layout", "fit", folder_with_config("bert"), [], 1, []),
    ("no such neutral text", "fit", lambda d: [*FEW, "--neutral", str(d / "n.txt")], [], 1, ["n.txt"]),
    ("no such artefact", "show", lambda d: [str(d / "gone.safetensors")], [], 1, ["gone"]),
    ("a foreign safetensors file", "show", foreign, [], 1, ["a plain safetensors file, not an artefact"]),
    ("a text as artefact", "show", write("hello", "v.safetensors"), [], 1, ["safetensors"]),
    ("a truncated artefact", "show", artefact_file(lambda b: b[: len(b) // 2]), [], 1, ["incomplete or invalid"]),
    ("an artefact cut in its header", "show", artefact_file(lambda b: b[:30]), [], 1, ["incomplete or invalid"]),
    (
        "an artefact of a later version",
        "show",
        artefact_file(lambda b: b.replace(b'\\"version\\": 1', b'\\"version\\": 9')),
        [],
        1,
        ["version 9"],
    ),
    ("an artefact of another model", "eval", lambda d: artefact_file()(d) + SAMPLE, [], 1, ["feedbeef", "pilot"]),
    (
        "an artefact of another width",
        "eval",
        lambda d: artefact_file(width=64)(d) + SAMPLE,
        ["--allow-mismatch"],
        1,
        ["width"],
    ),
    (
        "generating with another model's artefact",
        "generate",
        lambda d: ["hi", "-a", *artefact_file()(d)],
        [],
        1,
        ["--allow-mismatch"],
    ),
    ("a negative temperature", "generate", lambda d: ["hi", "-a", *artefact_file()(d)], ["--temperature", "-1"], 2, []),
    (
        "generating at a hook point never fitted",
        "generate",
        lambda d: ["hi", "-a", *artefact_file()(d)],
        ["--at", "5", "--allow-mismatch"],
        1,
        ["layers.5.resid_post", "layers.3.resid_post"],
    ),
    ("comparing an unknown method", "compare", lambda _: SAMPLE, ["--methods", "caa,pcaa"], 1, ["known", "caa"]),
    ("comparing no method", "compare", lambda _: SAMPLE, ["--methods", ","], 1, ["method"]),
    ("comparing at a negative KL", "compare", lambda _: SAMPLE, ["--equal-kl", "-1"], 2, ["--equal-kl"]),
    ("comparing at no KL", "compare", lambda _: SAMPLE, ["--equal-kl", "0"], 2, ["--equal-kl"]),
    (
        "comparing where no layer is",
        "compare",
        lambda _: [*SAMPLE, "--limit", "60"],
        ["--methods", "caa", "--layers", "99"],
        1,
        ["no method can be fitted", "layers 0..7"],
    ),
    ("comparing one data set twice", "compare", lambda _: SAMPLE + SAMPLE, [], 2, ["twice"]),
    ("comparing into a file", "compare", lambda d: [*SAMPLE, "-o", write("", "o.txt")(d)[0]], [], 2, ["is a file"]),
    (
        "comparing an autoencoder's method without one",
        "compare",
        lambda _: SAMPLE,
        ["--methods", "sta"],
        2,
        ["sta:sae=PATH"],
    ),
    ("a flag that is an option now", "compare", lambda _: SAMPLE, ["--sae", "pilot"], 2, ["--methods sta:sae=PATH"]),
    (
        "an option that the method does not take",
        "fit",
        lambda _: SAMPLE,
        ["--method", "caa,cold-jvp:epsilon=0.1"],
        2,
        ["cold-jvp: no option 'epsilon'", "loss, keep"],
    ),
    ("an option misspelt", "fit", lambda _: SAMPLE, ["--method", "cold-fd:kep=1"], 2, ["Did you mean 'keep'?"]),
    ("an option of no method", "fit", lambda _: SAMPLE, ["--method", "caa,keep=1"], 2, ["write NAME:keep=1"]),
    ("options of a group", "fit", lambda _: SAMPLE, ["--method", "pas:x=1"], 2, ["takes no options"]),
    (
        "keeping more than all",
        "fit",
        lambda _: SAMPLE,
        ["--method", "cold-fd:keep=1.5"],
        2,
        ["cold-fd: keep=1.5", "a number above 0, at most 1"],
    ),
    ("a step of length zero", "fit", lambda _: SAMPLE, ["--method", "cold-fd:epsilon=0"], 2, ["epsilon=0", "above 0"]),
    ("a step that is no number", "fit", lambda _: SAMPLE, ["--method", "cold-fd:epsilon=a"], 2, ["a number above 0"]),
    ("an unknown loss", "fit", lambda _: SAMPLE, ["--method", "cold-fd:loss=pairs"], 2, ["Did you mean 'pair'"]),
    (
        "a loss that wants shares",
        "fit",
        lambda _: SAMPLE,
        ["--method", "cold-fd:loss=shares"],
        2,
        ["loss=shares", "fit_taught"],
    ),
    ("no command of ours", "fitt", nothing, [], 2, ["fitt"]),
    ("no data named", "fit", nothing, [], 2, ["DATA"]),
]


@pytest.mark.parametrize(
    ("command", "given", "options", "code", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_bad_input_gives_one_clear_error_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    given: Callable[[Path], list[str]],
    options: list[str],
    code: int,
    words: list[str],
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    arguments = [command, *given(work), *options]
    before = sorted(p.name for p in work.rglob("*"))
    result = CliRunner().invoke(cli.app, arguments)
    if isinstance(result.exception, TillermanError):  # what main() prints
        assert result.exception.exit_code == code
        message = str(result.exception)
        assert len(message.splitlines()) == 1 or command == "check", message
    else:
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code
        message = result.output + result.stderr
    for word in words:
        assert word in message
    assert sorted(p.name for p in work.rglob("*")) == before, "a bad call left files behind"


@pytest.mark.slow
def test_the_program_prints_the_error_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tillerman.cli.app import main; main()", "check", str(tmp_path / "gone.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
