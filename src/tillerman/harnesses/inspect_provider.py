"""A steered model in inspect-ai: ``inspect eval ... --model tillerman/pilot -M artefact=...``."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from tillerman.core.errors import ModelError, UsageError
from tillerman.core.named_plan import NamedPlan
from tillerman.core.plan import Plan
from tillerman.data.examples import Example
from tillerman.data.presenting import Item
from tillerman.data.templates import read_arguments
from tillerman.data.writing import Writer, make_writer
from tillerman.evaluation.scoring import answers_given
from tillerman.harnesses.steered import SteeredModel, open_steered, receipt_json
from tillerman.models.artefacts import load
from tillerman.models.opened import OpenModel
from tillerman.steering.generation import Sampling, continuation_tokens, stop_tokens

try:
    import anyio.to_thread
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        GenerateConfig,
        Model,
        ModelAPI,
        ModelOutput,
        ModelUsage,
        get_model,
    )
    from inspect_ai.tool import ToolChoice, ToolInfo
except ImportError as error:
    raise ModelError("models in inspect-ai need inspect-ai: pip install 'tillerman[inspect]'") from error

# What of a request is read here; what concerns connections and retries is inspect's own business.
_READ = {"max_tokens", "temperature", "seed", "extra_body"}
_INSPECTS = {
    "max_retries",
    "timeout",
    "attempt_timeout",
    "stream_idle_timeout",
    "max_connections",
    "adaptive_connections",
    "system_message",
    "cache",
    "max_tool_output",
}
# Steering acts on the model itself, which several providers may share.
_ONE_AT_A_TIME = threading.Lock()


class SteeredAPI(ModelAPI):
    """A provider of replies under a plan, each in a steering block of its own.

    ``metadata["plan"]`` of every output names the plan, ``metadata["receipt"]`` says what it did. Temperature 0 if the
    request names none.
    Where ``extra_body`` has ``structured_outputs: {choice: [...]}`` (vLLM's words), the reply is the answer that
    Tillerman's own scorer finds the most likely; ``whole: true`` scores whole answers. Raises ``UsageError`` for
    requests with tools, and for settings that would be passed over; ``NotAppliedError`` where a plan did nothing.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (inspect's own default)
        artefact: str | None = None,
        strength: float | None = None,
        plan: str | None = None,
        device: str = "auto",
        template: str = "auto",
        template_args: Mapping[str, Any] | str | None = None,
        allow_mismatch: bool = False,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if artefact is not None:
            load(artefact)  # a wrong path is told before the first sample
        if plan is not None:
            NamedPlan.parse(plan)  # and so is a plan that cannot be read
        self._open = partial(
            open_steered, model_name, artefact, strength, plan=plan, device=device, allow_mismatch=allow_mismatch
        )
        self._template = template
        # As text in inspect's command line, -M template_args=enable_thinking=false
        self._arguments = read_arguments(template_args) if isinstance(template_args, str) else template_args

    @cached_property
    def steered(self) -> SteeredModel:
        """Opened by the first request: inspect makes providers only to ask for a model's name, too."""
        return self._open()

    @cached_property
    def writer(self) -> Writer:
        return make_writer(self.steered.opened.tokenizer, self._template, self._arguments)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        if tools:
            raise UsageError("tillerman models cannot call tools; remove them from the task")
        asked = config.model_dump(exclude_none=True)
        unread = sorted(set(asked) - _READ - _INSPECTS)
        if unread:
            raise UsageError(
                f"tillerman models do not support {', '.join(unread)}; supported: {', '.join(sorted(_READ))}"
            )
        return await anyio.to_thread.run_sync(self._reply, input, config)

    async def count_text_tokens(self, text: str) -> int:
        """By the model's own tokenizer; inspect's estimate would fetch another one from the network."""
        return len(self.writer.encode(text))

    def max_connections(self) -> int:
        return 1

    def _reply(self, messages: Sequence[ChatMessage], config: GenerateConfig) -> ModelOutput:
        body = config.extra_body or {}
        answers = body.get("structured_outputs", {}).get("choice")
        with _ONE_AT_A_TIME, self.steered.running() as receipt:
            writer, user = _conversation(self.writer, messages)
            if answers is None:
                prompt = writer.encode(writer.reply_text(user))
                text, said, reason = self._written(prompt, config)
            else:
                prompt, text, said = self._chosen(writer, user, answers, whole=bool(body.get("whole")))
                reason = "stop"
        made = receipt()
        message = ChatMessageAssistant(content=text, model=self.model_name, source="generate")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=reason)],
            usage=ModelUsage(input_tokens=len(prompt), output_tokens=said, total_tokens=len(prompt) + said),
            metadata=None if made is None else {"plan": self.steered.named, "receipt": receipt_json(made)},
        )

    def _written(self, prompt: tuple[int, ...], config: GenerateConfig) -> tuple[str, int, str]:
        """A reply in the model's own words, its length in tokens, and why it ends."""
        given = {"max_new_tokens": config.max_tokens, "temperature": config.temperature, "seed": config.seed}
        sampling = Sampling(**{name: value for name, value in given.items() if value is not None})
        opened = self.steered.opened
        (tokens,) = continuation_tokens(opened, [prompt], [()], sampling)
        ended = bool(tokens) and tokens[-1] in stop_tokens(opened)
        text = str(opened.tokenizer.decode(tokens, skip_special_tokens=True))
        return text, len(tokens), "stop" if ended else "max_tokens"

    def _chosen(
        self, writer: Writer, user: str, answers: Sequence[str], *, whole: bool
    ) -> tuple[tuple[int, ...], str, int]:
        """Prompt, the most likely answer, and its length in tokens; no text where the scores are not numbers."""
        texts = tuple(answers)
        example = Example("preference" if whole else "yes_no", user, texts, 0)
        written = writer.write(Item(example, user, texts, texts, 0))
        given = int(answers_given(self.steered.opened, [written])[0])
        if given < 0:
            return written.prompt, "", 0
        return written.prompt, texts[given], len(written.answers[given])


def steered_model(
    opened: OpenModel,
    plan: Plan = (),
    *,
    template: str = "auto",
    template_args: Mapping[str, Any] | None = None,
    warnings: tuple[str, ...] = (),
) -> Model:
    """A model for ``inspect_ai.eval`` of what is already open.

    ``get_model`` keeps models by those arguments that are JSON, and would take two plans for one.
    """
    model = get_model(f"tillerman/{opened.id}", memoize=False, template=template, template_args=template_args)
    model.api.steered = SteeredModel(opened, plan, warnings)
    return model


def _conversation(writer: Writer, messages: Sequence[ChatMessage]) -> tuple[Writer, str]:
    """System prompt and earlier turns as the writer's own, and what the user says last."""
    said: list[tuple[str, str]] = [(message.role, message.text) for message in messages]
    system = said.pop(0)[1] if said and said[0][0] == "system" else None
    roles = [role for role, _ in said]
    if not said or roles != ["user", "assistant"] * (len(said) // 2) + ["user"]:
        raise UsageError(
            f"messages by {', '.join(roles) or 'nobody'}: expected the user and the assistant in turn, "
            "after at most one system prompt, and the user last"
        )
    texts: list[Any] = [text for _, text in said]
    shots = tuple(zip(texts[:-1:2], texts[1::2], strict=True))
    return replace(writer.with_system(system), shots=shots), texts[-1]
