"""Named plans on a model: artefacts are found by name, checked, and steer together as their parts say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.errors import ArtefactError, MismatchError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.steering.named import find_artefact, open_plan

from ..harnesses.plans import pilot_artefact


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def folder(pilot: tillerman.OpenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("artefacts")
    artefact = pilot_artefact(pilot)
    tillerman.save(made / "one.safetensors", artefact)
    tillerman.save(made / "two.safetensors", replace(artefact, steering=-artefact.steering))
    made_elsewhere = replace(artefact.steering.provenance, model_fingerprint="other")
    tillerman.save(made / "alien.safetensors", replace(artefact, steering=_from(artefact.steering, made_elsewhere)))
    return made


def _from(steering: tillerman.SteeringVector, provenance: tillerman.Provenance) -> tillerman.SteeringVector:
    return replace(steering, provenance=provenance)


def test_a_named_plan_steers_as_the_same_plan_put_together_by_hand(pilot: tillerman.OpenModel, folder: Path) -> None:
    plan, warnings = open_plan("one@0.3+two@-0.2:last", pilot, folder=folder)
    vector, own = pilot_artefact(pilot).steering, pilot_artefact(pilot).cell.scope
    point = HookPoint(3)
    by_hand = (
        tillerman.Intervention(vector, vector.strength(point, 0.3), scope=own),
        tillerman.Intervention(-vector, vector.strength(point, -0.2), scope=tillerman.Scope("last")),
    )
    text = pilot.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What do you like?"}], tokenize=False, add_generation_prompt=True
    )
    tokens = torch.tensor([pilot.tokenizer(text, add_special_tokens=False)["input_ids"]])
    logits = []
    for one in (plan, by_hand):
        with torch.no_grad(), tillerman.steer(pilot.model, one):
            logits.append(pilot.model(input_ids=tokens).logits)
    assert warnings == ()
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(logits[0], pilot.model(input_ids=tokens).logits, atol=0.1)


def test_without_a_dose_a_part_is_the_artefacts_own_plan(pilot: tillerman.OpenModel, folder: Path) -> None:
    (item,), _ = open_plan("one", pilot, folder=folder)
    (own,) = pilot_artefact(pilot).plan()
    assert (item.strength, item.operator, item.scope) == (own.strength, own.operator, own.scope)


def test_scopes_that_need_marks_get_those_of_the_models_tokenizer(pilot: tillerman.OpenModel, folder: Path) -> None:
    plan, _ = open_plan("one:not_in_code+one:after_instruction", pilot, folder=folder)
    assert plan[0].scope.piece is not None and plan[0].scope.marker
    assert plan[1].scope == tillerman.after_instruction(pilot.tokenizer)


def test_names_are_stems_files_and_paths(folder: Path) -> None:
    for name in ("one", "one.safetensors", str(folder / "one")):
        assert find_artefact(name, folder) == folder / "one.safetensors"
    with pytest.raises(ArtefactError, match=r"no artefact 'tow'.*artefacts there: alien, one, two"):
        find_artefact("tow", folder)
    with pytest.raises(ArtefactError, match="there is none; 'tillerman fit' writes artefacts"):
        find_artefact("one", folder / "empty")


def test_an_artefact_of_another_model_is_refused_or_allowed_with_a_warning(
    pilot: tillerman.OpenModel, folder: Path
) -> None:
    with pytest.raises(MismatchError, match="does not belong to this model"):
        open_plan("one+alien", pilot, folder=folder)
    plan, warnings = open_plan("one+alien+alien", pilot, folder=folder, allow_mismatch=True)
    assert len(plan) == 3
    assert len(warnings) == 1 and warnings[0].startswith("weights: artefact of")


def test_a_plan_from_json_is_opened_as_its_text_is(pilot: tillerman.OpenModel, folder: Path) -> None:
    sent = json.loads(json.dumps([{"artefact": "one", "dose": 0.3}]))
    (item,), _ = open_plan(tillerman.NamedPlan.from_json(sent), pilot, folder=folder)
    (same,), _ = open_plan("one@0.3", pilot, folder=folder)
    assert item.strength == same.strength


def test_generate_continues_a_prompt_under_every_named_plan(folder: Path) -> None:
    plans = ["--plan", f"{folder / 'one'}@5", "--plan", f"{folder / 'two'}@-5+{folder / 'one'}:all"]
    said = CliRunner().invoke(
        app, ["generate", "--model", "pilot", "Hello", *plans, "--tokens", "4", "--temperature", "0", "--json"]
    )
    assert said.exit_code == 0, said.output
    plain, one, both = json.loads(said.stdout)["continuations"]
    assert (plain["plan"], plain["applied"]) == ("", [])
    assert one["applied"][0]["dose"] == pytest.approx(5)
    assert [part["scope"] for part in both["applied"]] == ["after_instruction", "all"]
    assert len({row["text"] for row in (plain, one, both)}) > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --artefact FILE, or --plan"),
        (["--plan", "one", "-a", "one.safetensors"], "two ways to steer; give one of them"),
        (["--plan", "one", "--strengths", "1"], "a --plan has doses of its own"),
        (["--plan", "one@much"], "character 5"),
    ],
)
def test_generate_says_what_a_plan_cannot_be_given_with(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        CliRunner().invoke(
            app, ["generate", "--model", "pilot", "Hello", *arguments], catch_exceptions=False, standalone_mode=False
        )
