"""Holding a scorer against labels, in words and tables."""

from __future__ import annotations

from dataclasses import replace

from tillerman.reports.validation import account, conclusion, to_markdown

from .examples import validation_log


def test_the_conclusion_sets_kappa_beside_that_of_people() -> None:
    said = conclusion(validation_log())
    assert said.startswith("judge:behaviour agrees with the labels on 80.0 % of 100 replies")
    assert "kappa 0.60 (0.44 to 0.73): less than two people do (ann and bob: 0.96 (0.88 to 0.99))." in said
    alone = replace(validation_log(), pairs=validation_log().pairs[:1], annotators=())
    assert conclusion(alone).endswith("kappa 0.60 (0.44 to 0.73).")


def test_tables_hold_agreement_calls_calibration_and_disagreements() -> None:
    told = account(validation_log())
    assert [table.title for table in told.tables] == [
        "Agreement",
        "Called yes: a score above 5 (rating, 0 to 10)",
        "Calibration",
        "Disagreements, the score farthest from the threshold first",
    ]
    assert told.tables[0].rows[0][1:3] == ("100", "80.0 (71.0 to 86.9)") and told.tables[0].strong == (1,)
    assert [row[1:3] for row in told.tables[1].rows] == [("40", "10"), ("10", "40")]
    assert told.tables[3].rows[0] == ("b", "no", "9", "no", "", "I am sorry …")
    words = " ".join(told.sentences)
    for part in ("would be right on 50.0 %", "middle of the range", "AUC 0.85", "score 0.120", "Left out"):
        assert part in words


def test_whole_texts_are_shown_only_where_the_log_holds_them() -> None:
    log = validation_log()
    assert account(log).tables[3].head[-1] == "begins"
    whole = replace(log, replies=tuple(replace(one, text="the whole reply") for one in log.replies))
    assert account(whole).tables[3].rows[0][-1] == "the whole reply" and account(whole).tables[3].head[-1] == "text"
    assert len(account(log, 0).tables) == 3
    assert "## Scorer judge:behaviour, validated" in to_markdown(log)


def test_a_scorer_that_ranks_the_wrong_way_round_is_told_so() -> None:
    log = validation_log()
    assert log.auc is not None
    low = replace(log, auc=replace(log.auc, value=0.2, interval=replace(log.auc.interval, low=0.1, high=0.3)))
    assert "wrong way round: a low score means yes" in " ".join(account(low).sentences)
    assert "chosen on the other four" in " ".join(account(replace(log, how="chosen")).sentences)
    assert "says yes or no" in " ".join(account(replace(log, auc=None, reliability=None)).sentences)
