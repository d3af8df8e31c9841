"""``--config`` and ``--write-config``: what is written is read back, the command line wins, errors name the key."""

from __future__ import annotations

import tomllib

import pytest
import typer
from hypothesis import given, strategies as st
from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.cli.commands import fit as fitting
from tillerman.core.errors import DataError, UsageError

ROOT = typer.main.get_command(app)
CONFIGURED = ("fit", "compare", "eval", "study", "score", "generate", "reproduce", "check", "export-task")
LEFT_OUT = {"config", "write_config"}


def parsed(command, *arguments):
    """The values that a command would run with."""
    one = ROOT.commands[command]
    found = one.make_context(command, list(arguments)).params
    return {name: value for name, value in found.items() if name not in LEFT_OUT}


def written(command, *arguments):
    result = CliRunner().invoke(app, [command, *arguments, "--write-config", "-"])
    assert result.exit_code == 0, result.output
    return result.stdout


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
options = st.fixed_dictionaries(
    {},
    optional={
        "--prompt": texts,
        "--system": texts,
        "--layers": st.sampled_from(["3", "2-5,8"]),
        "--doses": st.lists(st.floats(-3, 3), min_size=1, max_size=3).map(lambda values: ",".join(map(repr, values))),
        "--max-kl": st.floats(0, 1e6).map(repr),
        "--shots": st.integers(0, 30).map(str),
        "--seed": st.integers(0, 10**12).map(str),
        "--gate-at": texts,
    },
)
flags = st.sets(st.sampled_from(["--as-choice", "--keep-order", "--skip-bad-rows", "--pas-paper"]))


@pytest.mark.slow
@given(options, flags)
def test_what_is_written_is_read_back(tmp_path_factory, given_options, given_flags):
    arguments = [*(f"{name}={value}" for name, value in given_options.items()), *given_flags]
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_bytes(written("fit", "sample:agreeableness", *arguments).encode())
    assert parsed("fit", "--config", str(path)) == parsed("fit", "sample:agreeableness", *arguments)


LONG = {
    "fit": ["sample:agreeableness", "--method", "caa+pca", "--max-kl", "0.1", "--lora-baseline"],
    "compare": ["sample:agreeableness", "sample:mmlu", "--methods", "caa,iti", "--equal-kl", "0.05"],
    "eval": ["v.safetensors", "sample:agreeableness", "--no-as-choice", "--strength=-2"],
    "study": ["id-ood", "sample:mmlu", "--sources", "a", "--sources", "b", "--no-card"],
    "score": ["v.safetensors", "--scorer", "length", "--scorer", "fluency", "--doses=-0.3,0.3"],
    "generate": ["Hello", "-a", "v.safetensors", "--temperature", "0"],
    "reproduce": ["rice", "-m", "pilot", "-m", "pilot-moe", "--limit", "20"],
    "check": ["sample:agreeableness", "--limit", "20"],
    "export-task": ["sample:agreeableness", "-o", "task", "--all-items"],
}


@pytest.mark.parametrize("command", CONFIGURED)
def test_every_command_that_runs_something_has_a_configuration(command, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(written(command, *LONG[command]))
    assert parsed(command, "--config", str(path)) == parsed(command, *LONG[command])


def test_the_experiment_of_a_written_configuration_is_the_one_that_was_asked_for(tmp_path, monkeypatch):
    made = []

    def run_fit(experiment, seeds, *_):
        made.append((experiment, seeds))
        raise UsageError("nothing is run here")

    monkeypatch.setattr(fitting, "run_fit", run_fit)
    asked = [
        "fit",
        "sample:agreeableness",
        "--method",
        "caa",
        "--layers",
        "2-4",
        "--seeds",
        "3-5",
        "--shares",
        "0.5,0.3,0.2",
    ]
    path = tmp_path / "run.toml"
    assert CliRunner().invoke(app, [*asked, "--write-config", str(path)]).exit_code == 0
    for call in (asked, ["fit", "--config", str(path)]):
        assert str(CliRunner().invoke(app, call).exception) == "nothing is run here"
    assert made[0] == made[1]
    assert made[0][0].layers == (2, 3, 4)
    assert made[0][1] == (3, 4, 5)


def test_the_command_line_has_precedence_over_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('data = "sample:mmlu"\nshots = 3\nlayers = [2, 3]\nmax_kl = 0.5\n')
    found = parsed("fit", "--config", str(path), "--shots", "4")
    assert (found["data"], found["shots"], found["layers"], found["max_kl"]) == ("sample:mmlu", 4, "2,3", "0.5")
    assert parsed("fit", "sample:bbq-age", "--config", str(path))["data"] == "sample:bbq-age"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("max-lk = 1", UsageError, "fit has no option 'max-lk'. Did you mean 'max-kl'"),
        ("zzz = 1", UsageError, "fit has no option 'zzz'. Its --help names all."),
        ("as-choice = 1", UsageError, "as-choice = 1: expected true or false"),
        ("shots = true", UsageError, "shots = True: expected a text or a number"),
        ("[fit]\nshots = 1", UsageError, "fit has no option 'fit'"),
        ("shots = {a = 1}", UsageError, "expected a text or a number"),
        ("config = 'other.toml'", UsageError, "no option 'config'"),
        ("shots = ", DataError, "cannot read the configuration"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_key(tmp_path, text, error, words):
    path = tmp_path / "run.toml"
    path.write_text(text)
    found = CliRunner().invoke(app, ["fit", "sample:mmlu", "--config", str(path)]).exception
    assert isinstance(found, error)
    assert words in str(found)
    assert "run.toml" in str(found)


def test_a_file_that_is_not_there_is_one_error(tmp_path):
    found = CliRunner().invoke(app, ["fit", "sample:mmlu", "--config", str(tmp_path / "gone.toml")]).exception
    assert isinstance(found, DataError)


def test_a_value_that_does_not_fit_its_option_is_a_usage_error(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('shots = "many"')
    result = CliRunner().invoke(app, ["fit", "sample:mmlu", "--config", str(path)])
    assert result.exit_code == 2
    assert "--shots" in result.output


def test_what_is_written_is_toml_and_holds_the_defaults_too():
    table = tomllib.loads(written("fit", "sample:mmlu"))
    assert (table["data"], table["model"], table["shots"], table["as-choice"]) == ("sample:mmlu", "pilot", 10, False)


def test_a_configuration_that_cannot_be_written_is_an_error(tmp_path):
    found = CliRunner().invoke(app, ["fit", "sample:mmlu", "--write-config", str(tmp_path / "no" / "run.toml")])
    assert isinstance(found.exception, UsageError)
