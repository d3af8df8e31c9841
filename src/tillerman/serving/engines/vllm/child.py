"""The process that holds vLLM: ``python -m tillerman.serving.engines.vllm.child --socket PATH --model ...``.

It speaks to ``VllmEngine`` alone, over a socket of the file system: ``GET /handshake``, ``GET /alive``, and ``POST
/answer`` with a job as JSON, answered by a line of JSON for each chunk and one for the end. All other arguments are
vLLM's own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from tillerman.serving.engines.vllm import plugin
from tillerman.serving.engines.vllm.setting import KEY

_ENDINGS = {"stop": "stop", "length": "length", "abort": "cancelled"}
_NO_RECEIPT = "the engine gave no receipt, so the answer may be unsteered"


def main(arguments: Sequence[str]) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())
    parser.add_argument("--socket", required=True)
    given = parser.parse_args(list(arguments))

    async def serve() -> None:
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(given))
        try:
            app = make_app(engine)
            await uvicorn.Server(uvicorn.Config(app, uds=given.socket, log_level="warning")).serve()
        finally:
            engine.shutdown()

    asyncio.run(serve())


def make_app(engine: Any) -> Starlette:
    """The three routes over a running ``AsyncLLM``."""

    async def handshake(request: Request) -> JSONResponse:
        told = await engine.collective_rpc("tillerman_handshake")
        context = engine.model_config.max_model_len
        return JSONResponse({"workers": told, "context": context, "vllm": plugin.version()})

    async def alive(request: Request) -> JSONResponse:
        await engine.check_health()
        return JSONResponse({})

    async def answer(request: Request) -> StreamingResponse:
        job = await request.json()
        return StreamingResponse(_lines(engine, job), media_type="application/x-ndjson")

    routes = [
        Route("/handshake", handshake),
        Route("/alive", alive),
        Route("/answer", answer, methods=["POST"]),
    ]
    return Starlette(routes=routes)


async def _lines(engine: Any, job: dict[str, Any]) -> AsyncIterator[str]:
    async for one in _answer(engine, job):
        yield json.dumps(one) + "\n"


async def _answer(engine: Any, job: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    from vllm.exceptions import VLLMValidationError

    made, cached, receipt, reason = 0, 0, None, None
    try:
        prompt = {"prompt_token_ids": job["prompt"]}
        async for output in engine.generate(prompt, _params(job), job["id"]):
            (said,) = output.outputs
            made += len(said.token_ids)
            cached = max(cached, output.num_cached_tokens or 0)
            receipt = (output.kv_transfer_params or {}).get(KEY, receipt)
            reason = said.finish_reason
            if reason != "error" and (said.text or said.token_ids):
                yield {"text": said.text, "tokens": _taken(engine, said, job["drawing"]["logprobs"])}
    except VLLMValidationError as error:
        yield {"ended": "error", "why": str(error), "made": made, "cached": cached}
        return
    why = (receipt or {}).get("why") or (_NO_RECEIPT if job["lanes"] and receipt is None else "")
    if not why and reason not in _ENDINGS:
        why = "the engine ended the answer as an error"
    told = {"made": made, "cached": cached, "touched": (receipt or {}).get("touched", [])}
    yield {"ended": "error" if why else _ENDINGS[str(reason)], "why": why, **told}


def _params(job: dict[str, Any]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    drawing = job["drawing"]
    return SamplingParams(
        max_tokens=drawing["max_tokens"],
        temperature=drawing["temperature"],
        top_p=drawing["top_p"],
        top_k=drawing["top_k"],
        seed=drawing["seed"],
        stop=drawing["stop"],
        logit_bias={int(token): bias for token, bias in drawing["logit_bias"].items()} or None,
        presence_penalty=drawing["presence_penalty"],
        frequency_penalty=drawing["frequency_penalty"],
        logprobs=drawing["logprobs"],
        output_kind=RequestOutputKind.DELTA,
        extra_args={KEY: job["lanes"]} if job["lanes"] else None,
    )


def _taken(engine: Any, said: Any, logprobs: int | None) -> list[list[Any]]:
    """Each token as ``[id, text, log-probability, [[id, text, log-probability], ...]]``."""
    tokenizer = engine.get_tokenizer()
    if logprobs is None:
        return [[token, tokenizer.decode([token]), None, []] for token in said.token_ids]
    found = []
    for token, known in zip(said.token_ids, said.logprobs, strict=True):
        ranked = sorted(known.items(), key=lambda one: -one[1].logprob)[:logprobs]
        others = [[other, tokenizer.decode([other]), told.logprob] for other, told in ranked]
        found.append([token, tokenizer.decode([token]), known[token].logprob, others])
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
