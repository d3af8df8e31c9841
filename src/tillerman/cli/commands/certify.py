"""``tillerman certify``: one artefact at its own strength through every gate, signed on its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tillerman
from tillerman.cli import options as o, values
from tillerman.cli.output import ERR, NO_EFFECT, OUT, load, print_json, show_account
from tillerman.cli.studying import Studied, run_study
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening


def certify(
    artefact: Annotated[Path, typer.Argument(help="a file that 'fit' wrote", metavar="ARTEFACT")],
    data: Annotated[str | None, typer.Argument(help="the items it was fitted on, as for 'fit'", metavar="DATA")] = None,
    model: o.OwnModel = None,
    sign: Annotated[
        Path | None, typer.Option(help="file of a private key (Ed25519, PEM) that signs the card", metavar="KEYFILE")
    ] = None,
    make_key: Annotated[bool, typer.Option("--new-key", help="make the key of --sign first, in a new file")] = False,
    check: Annotated[bool, typer.Option("--check", help="measure nothing; read the certificate on the card")] = False,
    trust: Annotated[
        str | None, typer.Option(help="with --check: the public key that must have signed, or its file", metavar="KEY")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for log, tables and page; an interrupted run resumes")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=20, help="maximum test items of each way of asking")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="random seed of the draws")] = None,
    draws: Annotated[int | None, typer.Option(min=2, help="random directions, and vectors of few examples")] = None,
    context_tokens: Annotated[int | None, typer.Option(min=0, help="tokens of the long context")] = None,
    counts: Annotated[str | None, typer.Option(help="numbers of few examples, e.g. 8,16,32")] = None,
    max_kl: Annotated[float | None, typer.Option(help="budget of KL, nats per token")] = None,
    max_perplexity_ratio: Annotated[float | None, typer.Option(help="budget of perplexity ratio")] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="maximum loss of accuracy on the unrelated task, e.g. 0.05")
    ] = None,
    text_tokens: Annotated[int | None, typer.Option(min=1, help="maximum new tokens of a reply")] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="a file of unsafe prompts (AdvBench, JailbreakBench, ...)")
    ] = None,
    safe_prompts: Annotated[list[str] | None, typer.Option(help="a file of safe prompts in such a layout")] = None,
    max_change: Annotated[
        float | None, typer.Option(help="a change of refusals that is none to speak of, e.g. 0.1")
    ] = None,
    layout: o.Layout = None,
    columns: o.Columns = None,
    positive: o.Positive = None,
    skip_bad_rows: o.SkipBadRows = False,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Pass or fail: one artefact, at its own strength, through every gate.

    control: an effect beyond random directions, letters and answer words, written where replies are asked. utility:
    neutral text and an unrelated task within the budget. robustness: other ways of asking, and vectors of few examples.
    safety: refusals. Nothing is searched or chosen. What was found is written on the card, and signed with --sign;
    --check reads it. Exit code 3 unless it passes."""
    from tillerman.core.artefact import save
    from tillerman.core.packs import in_pack
    from tillerman.core.places import place_of
    from tillerman.core.signatures import new_key, signed
    from tillerman.evaluation.certificates import CERTIFICATE, check as checked, sign as signed_by
    from tillerman.reports.study import account

    if check:
        if data is not None or sign is not None or make_key:
            raise UsageError("--check measures and writes nothing; leave DATA, --sign and --new-key out")
        log, key = checked(tillerman.load(artefact), trust)
    else:
        from tillerman.cli.commands.study import options_of

        if trust is not None:
            raise UsageError("--trust is asked with --check")
        if data is None:
            raise UsageError("DATA is missing: the items the artefact was fitted on, e.g. sample:agreeableness")
        if place_of(artefact) is not None or in_pack(artefact):
            raise UsageError(f"{artefact}: lies on a hub or in a pack, where no card is changed; copy the file first")
        if make_key and sign is None:
            raise UsageError("--new-key makes the key of --sign KEYFILE; give its file")
        asked = {
            "limit": limit,
            "seed": seed,
            "draws": draws,
            "context_tokens": context_tokens,
            "counts": values.whole_numbers(counts, "--counts"),
            "max_kl": max_kl,
            "max_perplexity_ratio": max_perplexity_ratio,
            "max_loss": max_loss,
            "text_tokens": text_tokens,
            "prompts": values.several(prompts),
            "safe_prompts": values.several(safe_prompts),
            "max_change": max_change,
        }
        options = options_of(CERTIFICATE, asked)
        if sign is not None:
            if make_key:
                new_key(sign)
            signed(b"", sign)  # a key that is none is refused before the first pass
        loaded = load(data, layout, columns, positive, None, skip_bad_rows)
        studied = Studied((artefact,), (loaded,), "", allow_mismatch, True, {})
        log, key = run_study(CERTIFICATE, options, studied, o.ModelChoice(model, opening).of(artefact), out, ERR), ""
        if sign is not None:
            made = signed_by(tillerman.load(artefact), sign)
            save(artefact, made)
            log, key = checked(made)
    if as_json:
        print_json({**log.to_json(), "key": key or None})
    else:
        show_account(account(log))
        by = f"signed by {key}" if key else "not signed"
        OUT.print(f"{artefact}: certificate {by}", highlight=False, markup=False, soft_wrap=True)
    if log.verdict.outcome != "good":
        raise typer.Exit(NO_EFFECT)
