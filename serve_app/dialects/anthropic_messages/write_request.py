"""Writes a request for an Anthropic provider.

Source: Anthropic API reference, "Messages".
"""

import re
from collections.abc import Mapping
from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.anthropic_messages.model_facts import ThinkingStyle, facts_of
from serve_app.dialects.anthropic_messages.schemas import binding_schema
from serve_app.dialects.anthropic_messages.thinking import (
    LITTLE,
    MIN_TOP_P,
    budget_within,
    effort_for,
)
from serve_app.dialects.anthropic_messages.write_media import with_cache
from serve_app.dialects.anthropic_messages.write_messages import WrittenPrompt, write_prompt
from serve_app.dialects.json_values import json_text
from serve_app.dialects.protocol import Written
from serve_app.dialects.reasoning_effort import effort_of_budget
from serve_app.dialects.server_tools import places_of_server_tools
from serve_app.dialects.stable_ids import digest_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest, NestingTooDeep

_MAX_USER: Final = 256
_PERSONAL: Final = re.compile(r"@|^\+?[\d\s().-]{7,}$")
"""An address or a telephone number, which the API refuses as the name of a user."""
_MODES: Final[Mapping[ir.ToolMode, str]] = {
    ir.ToolMode.AUTO: "auto",
    ir.ToolMode.NONE: "none",
    ir.ToolMode.REQUIRED: "any",
    ir.ToolMode.NAMED: "tool",
}
_ONE_OBJECT: Final = (
    "Answer with one JSON object only: without any text around it, and without a code fence."
)


def write_request(request: ir.Request, model: str) -> Written:
    """The body for a provider.

    Raises InvalidRequest that names the client's field where the API cannot do what it says.
    """
    try:
        return _Draft(request, model).write()
    except RecursionError:
        raise NestingTooDeep from None


class _Draft:
    """A request while it is written."""

    def __init__(self, request: ir.Request, model: str) -> None:
        self._request = request
        self._facts = facts_of(model)
        self._dropped: dict[str, None] = {}
        self._body: dict[str, Json] = {"model": model}

    def write(self) -> Written:
        request, body = self._request, self._body
        self._refuse_logprobs()
        prompt = write_prompt(request.messages)
        self._dropped.update(dict.fromkeys(prompt.dropped))
        body["max_tokens"] = request.max_output_tokens or self._facts.default_output
        system = [*prompt.system, *self._json_order()]
        if system:
            body["system"] = system
        body["messages"] = prompt.messages
        self._tools(prompt)
        self._stop()
        self._sampling()
        self._reasoning(prompt)
        self._json_format()
        if request.user:
            body["metadata"] = {"user_id": _opaque(request.user)}
        if request.stream:
            body["stream"] = True
        self._drop_rest()
        return Written(body, tuple(self._dropped))

    def _drop(self, field_name: str) -> None:
        self._dropped[self._request.path_of(field_name)] = None

    def _refuse_logprobs(self) -> None:
        if self._request.sampling.logprobs:
            path = self._request.path_of("logprobs")
            message = f"{path}: models of this provider do not report probabilities; leave it out"
            raise InvalidRequest(message, path)

    def _json_order(self) -> list[Json]:
        """What asks for JSON in words, where the API cannot bind the answer."""
        wanted = self._request.json_format
        if wanted is None or (wanted.schema is not None and self._facts.takes_schema):
            return []
        texts = [_ONE_OBJECT]
        if wanted.schema is not None:
            texts.append(f"It must be valid against this JSON Schema:\n{json_text(wanted.schema)}")
        return [{"type": "text", "text": "\n".join(texts)}]

    def _json_format(self) -> None:
        wanted = self._request.json_format
        if wanted is not None and wanted.schema is not None and self._facts.takes_schema:
            schema = {"type": "json_schema", "schema": binding_schema(wanted.schema)}
            self._body.setdefault("output_config", {})["format"] = schema

    def _tools(self, prompt: WrittenPrompt) -> None:
        request, choice = self._request, self._request.tool_choice
        self._dropped.update(dict.fromkeys(places_of_server_tools(request)))
        allowed = choice.allowed if choice else ()
        tools = [tool for tool in request.tools if not allowed or tool.name in allowed]
        written = [_described(tool) for tool in tools]
        strict = next((tool for tool in tools if tool.strict), None)
        if strict is not None:
            # Schemas that bind calls may use few keywords, and only twenty tools may have one.
            self._dropped[f"{strict.at or request.path_of('tools')}.strict"] = None
        if not written and prompt.called:
            # The API refuses calls in a conversation without tools.
            written = [_described(ir.Tool(name)) for name in prompt.called]
            choice = ir.ToolChoice(ir.ToolMode.NONE)
        if not written:
            if choice is not None and choice.mode in (ir.ToolMode.REQUIRED, ir.ToolMode.NAMED):
                path = request.path_of("tool_choice")
                raise InvalidRequest(f"{path}: there are no tools to choose from", path)
            return
        self._body["tools"] = written
        self._choice(choice)

    def _choice(self, choice: ir.ToolChoice | None) -> None:
        is_serial = self._request.parallel_tool_calls is False
        if choice is None and not is_serial:
            return
        mode = ir.ToolMode.AUTO if choice is None else choice.mode
        written: dict[str, Json] = {"type": _MODES[mode]}
        if choice is not None and mode is ir.ToolMode.NAMED:
            written["name"] = choice.name
        if is_serial and mode is not ir.ToolMode.NONE:
            written["disable_parallel_tool_use"] = True
        self._body["tool_choice"] = written

    def _stop(self) -> None:
        stop = [text for text in self._request.stop if text.strip()]
        if len(stop) < len(self._request.stop):
            self._drop("stop")
        if stop:
            self._body["stop_sequences"] = stop

    def _sampling(self) -> None:
        """Temperature or top_p, of which models take one only, and top_k."""
        sampling = self._request.sampling
        given = {
            key: value
            for key in ("temperature", "top_p", "top_k")
            if (value := getattr(sampling, key)) is not None
        }
        if not self._facts.takes_sampling:
            self._drop_all(given)
            return
        if "temperature" in given and given.pop("top_p", None) is not None:
            self._drop("top_p")
        if given.get("temperature", 0) > 1:
            given["temperature"] = 1
            self._drop("temperature")
        self._body.update(given)

    def _drop_all(self, names: Mapping[str, Json]) -> None:
        for name in names:
            self._drop(name)

    def _reasoning(self, prompt: WrittenPrompt) -> None:
        wanted = self._request.reasoning
        if wanted is None or wanted.enabled is False:
            return
        is_adaptive = self._facts.thinking is ThinkingStyle.ADAPTIVE
        if wanted.effort in LITTLE:
            if is_adaptive:  # some of these think unless they are told to make little effort
                self._body["output_config"] = {"effort": "low"}
            return
        if not (wanted.enabled or wanted.effort or wanted.budget_tokens):
            return
        if is_adaptive:
            self._think_adaptively(wanted)
        elif self._facts.thinking is ThinkingStyle.NONE or not self._may_think(prompt):
            self._drop("reasoning")
        else:
            self._think_by_budget(wanted)

    def _may_think(self, prompt: WrittenPrompt) -> bool:
        choice = self._body.get("tool_choice") or {}
        return prompt.can_think and choice.get("type") not in ("any", "tool")

    def _think_adaptively(self, wanted: ir.Reasoning) -> None:
        """The API takes this with every conversation and every choice of tools."""
        thinking: dict[str, Json] = {"type": "adaptive"}
        if wanted.summary is not None:
            thinking["display"] = "omitted" if wanted.summary == "none" else "summarized"
        self._body["thinking"] = thinking
        effort = wanted.effort or effort_of_budget(wanted.budget_tokens)
        if effort is not None:
            self._body["output_config"] = {"effort": effort_for(self._facts, effort)}
        self._leave_sampling_out()

    def _think_by_budget(self, wanted: ir.Reasoning) -> None:
        budget = budget_within(
            self._body["max_tokens"], wanted.budget_tokens, wanted.effort, self._facts.max_output
        )
        self._body["max_tokens"] = budget.max_tokens
        self._body["thinking"] = {"type": "enabled", "budget_tokens": budget.thoughts}
        self._leave_sampling_out()

    def _leave_sampling_out(self) -> None:
        """The API refuses to change the sampling of a model that thinks."""
        if self._body.pop("temperature", 1) != 1:
            self._drop("temperature")
        if self._body.pop("top_k", None) is not None:
            self._drop("top_k")
        if self._body.get("top_p", 1) < MIN_TOP_P:
            del self._body["top_p"]
            self._drop("top_p")

    def _drop_rest(self) -> None:
        """Notes what the API has no field for, where the client asks for other than the default."""
        request, sampling = self._request, self._request.sampling
        asked = {
            "seed": sampling.seed is not None,
            "frequency_penalty": sampling.frequency_penalty,
            "presence_penalty": sampling.presence_penalty,
            "logit_bias": sampling.logit_bias,
            "top_logprobs": sampling.top_logprobs,
            "verbosity": request.verbosity not in (None, "medium"),
            "store": request.store,
            "prompt_cache_key": request.prompt_cache_key,
            "metadata": request.metadata,
            "service_tier": request.service_tier not in (None, "auto", "default"),
        }
        self._drop_all({name: value for name, value in asked.items() if value})


def _described(tool: ir.Tool) -> dict[str, Json]:
    """A tool for the API, whose schema is always that of an object."""
    schema = dict(tool.schema) if isinstance(tool.schema, dict) else {}
    if schema.get("type") != "object":
        schema = {**schema, "type": "object"}
    schema.setdefault("properties", {})
    written: dict[str, Json] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        written["description"] = tool.description
    return with_cache(written, tool.cache)


def _opaque(user: str) -> str:
    """The name of a user; a hash of one that says who it is, or is too long."""
    if len(user) <= _MAX_USER and not _PERSONAL.search(user):
        return user
    return digest_of(user)
