"""A fuzzer over artefacts and logs: no mutant may end in a traceback, and none may load as another vector unsaid.

``python -m tests.fuzz.artefacts --mutants 10000 --seed 1`` makes a larger run than the test does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import tillerman
from tillerman.cli.commands.show import artefact_json, print_artefact
from tillerman.cli.render import print_account
from tillerman.cli.terminal import Terminal
from tillerman.core.artefact import Artefact
from tillerman.core.atoms import Atom
from tillerman.core.cell import Cell
from tillerman.core.confidence import Confidence
from tillerman.core.errors import ArtefactError, LogError, TillermanError
from tillerman.core.gates import ProbeGate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Card
from tillerman.core.seal import sealed
from tillerman.core.steerings.files import taken_apart
from tillerman.core.steerings.vector import SteeringVector
from tillerman.evaluation.cards import evaluation_of, studies_of, with_study
from tillerman.logs.base import Log
from tillerman.logs.study import StudyLog
from tillerman.recipes.parse import read_recipe
from tillerman.reports.pages import render_beside, render_report
from tillerman.reports.side_by_side import Column
from tillerman.reports.summary import summary
from tillerman.studies.registry import judge_again

from .. import tiny
from ..core.test_kinds import EXAMPLES
from ..reports.example_log import example_log
from ..reports.examples import LOGS, study_log
from . import mutants

LONGEST = 600  # characters of a message


def subjects() -> list[Artefact]:
    """One artefact of every kind, with gates and with all that a card can hold."""
    made = [Artefact(make(), Cell.of(make(), 0.5)) for make in (*EXAMPLES.values(), _clamping, _turning)]
    first = made[0].steering
    gates = (ProbeGate(torch.ones(4), 0.5, HookPoint(0)), SimilarityGate(torch.ones(4), HookPoint(0), 0.2))
    card = Card(json.loads(json.dumps(example_log().to_json())))
    made += [Artefact(first, Cell.of(first), gate, card) for gate in gates]
    return [*made, with_study(made[-1], study_log())]


def _clamping() -> SteeringVector:
    vector, atom = tiny.vector(0), Atom(torch.randn(tiny.WIDTH), 0.5, -1.0)
    return replace(vector, atoms={HookPoint(0): atom}, operator="clamp_atom")


def _turning() -> SteeringVector:
    gate = Confidence(torch.randn(tiny.WIDTH), 20.0, 0.1)
    return replace(tiny.vector(0), confidences={HookPoint(0): gate}, operator="slerp")


def in_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def write_mutant(path: Path, content: bytes, draw: random.Random) -> bool:
    """A mutant of the artefact ``content`` at ``path``; whether what it says was sealed anew, so that it may be another
    vector by right."""
    path.write_bytes(content)
    if draw.random() < 0.4:
        path.write_bytes(mutants.of_bytes(content, draw))
        return False
    tensors, metadata = in_file(path)
    head = json.loads(metadata["tillerman"])
    if draw.random() < 0.75:
        head = mutants.of_json(head, draw)
    else:
        tensors = _of_tensors(tensors, draw)
    changed = {"tillerman": json.dumps(head)}
    kind = draw.choice(("sealed anew", "sealed anew", "as before seals", "stale"))
    if kind == "sealed anew":
        changed = sealed(tensors, changed)
    elif kind == "as before seals" and isinstance(head, dict):
        head.pop("sealed", None)
        changed = {"tillerman": json.dumps(head)}
    else:
        changed |= {"checksum": metadata["checksum"]}
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata=changed)
    return kind != "stale"


def _of_tensors(tensors: dict[str, torch.Tensor], draw: random.Random) -> dict[str, torch.Tensor]:
    made = dict(tensors)
    name = draw.choice(sorted(made))
    match draw.randrange(7):
        case 0:
            del made[name]
        case 1:
            made[draw.choice(("gate", "x", "layers.7.resid_post", "atom layers.0.resid_post", ""))] = made.pop(name)
        case 2:
            made[name] = made[name].reshape(-1)[: draw.randrange(made[name].numel() + 1)].clone()
        case 3:
            made[name] = made[name].reshape(1, -1).repeat(2, 1)
        case 4:
            made[name] = made[name].to(draw.choice((torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)))
        case 5:
            odd = draw.choice((0.0, float("nan"), float("inf"), 1e38, -1.0))
            made[name] = torch.full(made[name].shape, odd)
        case _:
            made["more"] = torch.ones(draw.randrange(5))
    return made


def use_artefact(path: Path, artefact: Artefact) -> None:
    """All that a user does with a file that was read, but for the model."""
    screen = Terminal(file=StringIO(), width=80)
    repr(artefact), artefact._repr_html_(), artefact.plan(), artefact.dose
    json.dumps(artefact_json(artefact))
    print_artefact(path, artefact, screen)
    if artefact.card is not None and artefact.card.report:
        log, studies = evaluation_of(artefact), studies_of(artefact)
        render_report(log, studies), render_beside([Column("a", log, studies)] * 2), summary(log)


def use_log(log: Log) -> None:
    """All that a user does with a log that was read."""
    repr(log), log._repr_html_(), json.dumps(log.to_json())
    screen = Terminal(file=StringIO(), width=80)
    for account in _accounts(log):
        print_account(screen, account)
    if isinstance(log, StudyLog) and log.trials:
        judge_again(log)


def _accounts(log: Any) -> Iterator[Any]:
    from tillerman.recipes import report as of_reproductions
    from tillerman.reports import comparison, evaluation, monitor, scores, second_look, study, thoughts, validation

    match log.kind:
        case "evaluation":
            yield evaluation.account(log)
        case "comparison":
            yield from map(comparison.account, log.comparisons)
            comparison.to_markdown(log)
        case "study":
            yield study.account(log)
            study.to_markdown(log)
        case "scores":
            yield scores.account(log)
        case "second-look":
            yield second_look.account(log)
            second_look.to_markdown(log)
        case "validation":
            yield validation.account(log)
            validation.to_markdown(log)
        case "thoughts":
            yield thoughts.account(log)
        case "monitor":
            yield monitor.account(log)
        case "reproduction":
            recipe = read_recipe("pas")[0]
            of_reproductions.summary(log), list(log.versions)
            del recipe


def same_steering(one: Artefact, other: Artefact) -> bool:
    mine, theirs = taken_apart(one.steering), taken_apart(other.steering)
    whole = mine[0].keys() == theirs[0].keys() and all(torch.equal(t, theirs[0][name]) for name, t in mine[0].items())
    return whole and mine[1] == theirs[1] and (one.cell, one.card) == (other.cell, other.card)


def fuzz(count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How ``count`` mutants ended, half of artefacts and half of logs, and what should not have been."""
    draw, ends, faults = random.Random(seed), Counter[str](), []
    paths = []
    for k, artefact in enumerate(subjects()):
        tillerman.save(folder / f"whole{k}.safetensors", artefact)
        paths.append(folder / f"whole{k}.safetensors")
    wholes = [(path.read_bytes(), tillerman.load(path)) for path in paths]
    logs = [(log, json.dumps(log.to_json())) for log in LOGS]
    for number in range(count):
        if number % 2:
            content, whole = draw.choice(wholes)
            path = folder / "mutant.safetensors"
            act = partial(_artefact_again, path, whole, write_mutant(path, content, draw))
            end, fault = _tried(act, path, ArtefactError)
        else:
            log, text = draw.choice(logs)
            path = folder / "mutant.json"
            raw = draw.random() < 0.3
            changed = None if raw else mutants.of_json(json.loads(text), draw)
            path.write_bytes(mutants.of_bytes(text.encode(), draw) if raw else json.dumps(changed).encode())
            end, fault = _tried(partial(_log_again, type(log), path), path, LogError)
        ends[end] += 1
        if fault:
            kept = folder / f"fault-{seed}-{number}{path.suffix}"
            kept.write_bytes(path.read_bytes())
            faults.append(f"{kept}: {fault}")
    return ends, faults


def _artefact_again(path: Path, whole: Artefact, resealed: bool) -> str:
    artefact = tillerman.load(path)
    if not resealed and not same_steering(artefact, whole):
        raise AssertionError("a changed artefact was loaded without a word")
    use_artefact(path, artefact)
    return "artefact read"


def _log_again(kind: type[Log], path: Path) -> str:
    log = kind.read(path)
    use_log(log)
    return "log read"


def _tried(act: Callable[[], str], path: Path, refused: type[TillermanError]) -> tuple[str, str]:
    """How it ended, and what was wrong with that: empty where nothing was."""
    try:
        return act(), ""
    except refused as error:
        said = str(error)
        if not said.startswith((str(path), path.name)) or len(said) > LONGEST or not said.isprintable():
            return "a poor message", f"{len(said)} characters: {said!r}"
        return f"{refused.__name__}", ""
    except TillermanError as error:
        return f"read, then {type(error).__name__}", ""
    except Exception:  # noqa: BLE001 (that is what is looked for)
        return "traceback", traceback.format_exc()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where faulty mutants are kept; a temporary one if not given")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    ends, faults = fuzz(asked.mutants, asked.seed, folder)
    lines = [f"{count:7d}  {end}" for end, count in ends.most_common()]
    sys.stdout.write("\n".join([*lines, f"{len(faults)} faults, mutants in {folder}", *faults[:20], ""]))


if __name__ == "__main__":
    main()
