"""What nulls have to tell, and when they are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tillerman
from tillerman.core.artefact import Artefact
from tillerman.core.store import Store
from tillerman.pipeline.held_out import Null, ask, ask_searched
from tillerman.pipeline.run import Run, Unwatched
from tillerman.pipeline.search import choose, choose_nulls, null_vectors
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter

from ..planted import SMALL, coins, labelled, speaker, teller

ALWAYS_YES = replace(SMALL, max_train=20, max_validation=20, max_test=20)


def told(log: tillerman.EvaluationLog) -> list[tuple[bool, bool]]:
    """Of each null, whether its row tells of its own search, and whether it says that there was none."""
    details = [c.detail for c in log.conditions if c.name.startswith("null")]
    return [("best of the same grid" in one, "no search of its own" in one) for one in details]


def test_where_an_effect_is_found_the_nulls_tell_what_their_own_search_finds() -> None:
    log = tillerman.fit(ALWAYS_YES, teller(), labelled(0, 100, 1.0)).log
    assert log.effect.found
    assert told(log) == [(True, False)] * 2


def test_where_no_effect_is_found_nothing_is_searched_to_cast_doubt_on_it() -> None:
    log = tillerman.fit(replace(ALWAYS_YES, zero=False), speaker(), coins(0, 100)).log
    assert not log.effect.found and log.strength
    assert told(log) == [(False, True)] * 2
    assert log.condition("null:random").effect is not None  # its draws are tested all the same


@pytest.fixture(scope="module")
def run() -> Run:
    return set_up(replace(SMALL, zero=False), speaker(), coins(0, 100), Store(None, ""), Unwatched())


def test_nulls_that_are_searched_last_answer_as_those_asked_with_all_others(run: Run) -> None:
    choice = choose(run, make_meter(run))
    draws = null_vectors(run, "random", choice)
    plain = Null("null:random", draws, choice.cell.for_draw(draws[0]))
    searched = replace(plain, best=choose_nulls(run, {"random": draws[0]}, choice)["random"])
    chosen = Artefact(choice.fitted.vector, choice.cell)
    together = ask(run, chosen, (searched,))
    apart = ask_searched(run, chosen, ask(run, chosen, (plain,)), (searched,))
    assert len(apart.nulls[0]) == len(draws) + 1
    assert all(np.array_equal(a, b) for a, b in zip(apart.nulls, together.nulls, strict=True))


def test_exemplars_are_the_first_items_answered_wrong_however_many_are_asked(run: Run) -> None:
    asked: list[int] = []
    fresh = replace(run, store=Store(None, ""))
    handle = run.opened.parts.blocks[0].register_forward_pre_hook(lambda _, a: asked.append(len(a[0])))
    few = fresh.wrong(3)
    handle.remove()
    everything = [item for item, said in zip(run.train.items, run.predictions, strict=True) if said != item.right]
    assert len(few) == 3 and few == everything[:3] == run.wrong(3)
    assert run.wrong(999) == everything == fresh.wrong(999)
    assert sum(asked) < len(run.train.items)
