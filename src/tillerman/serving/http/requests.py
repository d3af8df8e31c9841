"""What may be asked on OpenAI's routes. Everything that is taken has its effect; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from tillerman.serving.asked import STEERING_SCHEMA, read_steering
from tillerman.serving.door import Order
from tillerman.serving.engine import Drawing
from tillerman.serving.http.bodies import StrictBody
from tillerman.serving.prompts import PromptReader, TokenPrompt
from tillerman.serving.refusals import Refusal

_COMPLETION_TOKENS = 16  # OpenAI's default of /v1/completions
_PROMPTS = 256  # of one request
# Fields of OpenAI's that are not offered: the values that ask for nothing, which clients send.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "tools": (None,),
    "tool_choice": (None, "none"),
    "parallel_tool_calls": (None,),
    "functions": (None,),
    "function_call": (None, "none"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "verbosity": (None,),
    "web_search_options": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "metadata": (None, {}),
    "prompt_cache_key": (None,),
    "safety_identifier": (None,),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
}
# Where leaving it out is no remedy.
_INSTEAD: Mapping[str, str] = {
    "echo": "lm-eval measures log-likelihoods of a steered model in a process of its own (docs/harnesses.md)",
    "response_format": "answers are free text; leave it out and check what comes",
}
_NEUTRAL_IN_MESSAGES: Mapping[str, tuple[Any, ...]] = {
    "name": (None,),
    "refusal": (None,),
    "audio": (None,),
    "tool_calls": (None, []),
    "tool_call_id": (None,),
    "function_call": (None,),
    "annotations": (None, []),
    "reasoning_content": (None,),
}


Stop = Annotated[str, Field(min_length=1)]
SteeringField = Annotated[Any, WithJsonSchema(dict(STEERING_SCHEMA))]  # read by ``asked``


class TextPart(StrictBody):
    """A part of a message; there are no images and no files here."""

    type: Literal["text"]
    text: str


class ChatMessage(StrictBody):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @model_validator(mode="before")
    @classmethod
    def _offered(cls, value: Any) -> Any:
        return _without_neutral(value, _NEUTRAL_IN_MESSAGES, "messages.")

    def plain(self) -> dict[str, str]:
        """As chat templates take it: OpenAI's developer is their system."""
        said = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": said}


class StreamOptions(StrictBody):
    include_usage: bool | None = None


class GenerationBody(StrictBody):
    """What both routes take. Null is the same as leaving a field out."""

    model: Annotated[str, Field(max_length=1000)]
    steering: SteeringField = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=10**6)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=256)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _offered(cls, value: Any) -> Any:
        return _without_neutral(value, _NEUTRAL, "")

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def _drawing(self, most: int, logprobs: int | None, reader: PromptReader) -> Drawing:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if self.stream_options is not None and not self.stream:
            raise Refusal("malformed", "stream_options: only with stream", "stream_options")
        return Drawing(
            max_tokens=most,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k or 0),
            stop=stop,
            logit_bias=_biases(self.logit_bias or {}, reader.vocabulary),
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logprobs=logprobs,
        )

    def _order(self, prompts: tuple[TokenPrompt, ...], drawing: Drawing, header: str | None) -> Order:
        said = read_steering(self.steering)
        if header is not None and said is not None:
            raise Refusal("malformed", "steering is given twice: by the field and by the header", "steering")
        if header is not None:
            said = read_steering(header, "X-Tillerman-Steering") if header.strip() else ()
        return Order(self.model, said, prompts, drawing, self.n or 1, self.seed, self.user)


class ChatBody(GenerationBody):
    """A request to ``/v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def order(self, reader: PromptReader, header: str | None) -> Order:
        """``Refusal`` for what contradicts itself or cannot be written as a prompt."""
        if self.top_logprobs is not None and not self.logprobs:
            raise Refusal("malformed", "top_logprobs: only with logprobs", "top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise Refusal("malformed", "max_tokens and max_completion_tokens differ; give one", "max_completion_tokens")
        most = self.max_completion_tokens or self.max_tokens or 0
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        drawing = self._drawing(most, logprobs, reader)
        prompt = reader.chat([message.plain() for message in self.messages], self.chat_template_kwargs or {})
        return self._order((prompt,), drawing, header)


class TextBody(GenerationBody):
    """A request to ``/v1/completions``: one prompt or several, as texts or as token ids."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def order(self, reader: PromptReader, header: str | None) -> Order:
        drawing = self._drawing(self.max_tokens or _COMPLETION_TOKENS, self.logprobs, reader)
        return self._order(_prompts(self.prompt, reader), drawing, header)


def _prompts(given: str | list[str] | list[int] | list[list[int]], reader: PromptReader) -> tuple[TokenPrompt, ...]:
    if isinstance(given, str):
        return (reader.plain(given),)
    if not given:
        raise Refusal("malformed", "the prompt is empty", "prompt")
    if len(given) > _PROMPTS and not isinstance(given[0], int):  # before any is read
        raise Refusal("over_cap", f"{len(given)} prompts; at most {_PROMPTS}", "prompt")
    found: list[TokenPrompt] = []
    numbers: list[int] = []
    for one in given:
        if isinstance(one, int):
            numbers.append(one)
        else:
            found.append(reader.plain(one) if isinstance(one, str) else reader.given(one))
    return (reader.given(numbers),) if numbers else tuple(found)


def _biases(given: Mapping[str, float], vocabulary: int) -> dict[int, float]:
    found = {}
    for name, bias in given.items():
        if not (name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < vocabulary):
            raise Refusal("malformed", f"logit_bias: {name[:20]!r} is no token id of this model", "logit_bias")
        found[int(name)] = float(bias)
    return found


def _without_neutral(value: Any, neutral: Mapping[str, tuple[Any, ...]], place: str) -> Any:
    if not isinstance(value, dict):
        return value
    for name in value:
        if name in neutral and not any(value[name] == one and type(value[name]) is type(one) for one in neutral[name]):
            instead = _INSTEAD.get(f"{place}{name}", "leave it out")
            raise Refusal("unsupported", f"{place}{name}: is not offered by this server; {instead}", f"{place}{name}")
    return {name: one for name, one in value.items() if name not in neutral}
