"""``tillerman chat``: talk in the terminal to a server, and see what was done to each answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Mapping
from typing import Annotated, Any

import typer

from tillerman.cli import serving as c
from tillerman.cli.output import ERR, OUT


def chat(
    url: Annotated[str, typer.Argument(help="address of 'tillerman serve'", metavar="URL")] = "http://127.0.0.1:8000",
    steering: Annotated[
        str | None,
        typer.Option(help="plan, e.g. science@0.3; the server's default if not given, '' for none", metavar="PLAN"),
    ] = None,
    say: Annotated[
        str | None, typer.Option(help="say this alone; lines of the standard input if not given", metavar="TEXT")
    ] = None,
    system: Annotated[str | None, typer.Option(help="system message", metavar="TEXT")] = None,
    key: Annotated[
        str, typer.Option(help="environment variable that holds the key, where the server wants one")
    ] = "TILLERMAN_KEY",
    max_tokens: Annotated[int, typer.Option(min=1, help="tokens of an answer at most")] = 200,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 takes the most likely token")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="of the draws; the server's choice if not given")] = None,
) -> None:
    """Chat with a served model in the terminal.

    Answers come as they are made, each with its receipt on the error output; one without it is an error."""
    c.ensure_installed()
    from tillerman.serving.client import SteeringClient

    asked = {"max_tokens": max_tokens, "temperature": temperature, **({} if seed is None else {"seed": seed})}
    plan: str | list[str] | None = [] if steering is not None and not steering.strip() else steering
    said = [] if system is None else [{"role": "system", "content": system}]
    with SteeringClient(url, key=os.environ.get(key)) as client:
        for words in _lines(say):
            said.append({"role": "user", "content": words})
            answer, receipt = _shown(client.stream(said, steering=plan, options=asked))
            said.append({"role": "assistant", "content": answer})
            for line in _receipt_lines(receipt):
                ERR.print(line, soft_wrap=True, style="dim")


def _lines(say: str | None) -> Iterator[str]:
    if say is not None:
        yield say
        return
    while True:
        if sys.stdin.isatty():
            ERR.print("> ", end="")
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.rstrip("\n")


def _shown(pieces: Generator[str, None, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """The answer, printed while it comes, and its receipt."""
    said: list[str] = []
    try:
        while True:
            try:
                said.append(next(pieces))
            except StopIteration as ended:
                return "".join(said), ended.value
            OUT.print(said[-1], end="", soft_wrap=True)
            OUT.file.flush()
    finally:
        OUT.print()


def _receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    lines = [
        f"[{one['artefact']}@{one['dose']:.3g} {one['operator']}, {one['scope']}: "
        + ", ".join(f"{count} tokens at {point}" for point, count in one["at"].items())
        + "]"
        for one in receipt["applied"]
    ]
    crossed = [
        f"[monitor {one['monitor']} crossed at token {one['crossed'][0]}: {one['action']}]"
        for one in receipt.get("monitors", ())
        if one["crossed"][0] is not None
    ]
    return [*(lines or ["[unsteered]"]), *crossed, *(f"[{warning}]" for warning in receipt.get("warnings", ()))]
