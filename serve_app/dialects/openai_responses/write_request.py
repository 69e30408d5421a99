"""Writes a request for a provider.

Source: OpenAI API reference, "Responses", "Create a model response". No state is left with the
provider: nothing is stored, and encrypted thoughts go with the conversation.
"""

from typing import Final

from serve_app.dialects import ir
from serve_app.dialects.openai_requests import MAX_USER, OPENAI, parameters_of, schema_fields
from serve_app.dialects.openai_responses.effort import refuses_reasoning
from serve_app.dialects.openai_responses.read_request import ENCRYPTED, LOGPROBS
from serve_app.dialects.openai_responses.write_input import InputWriter
from serve_app.dialects.protocol import Written
from serve_app.dialects.reasoning_effort import effort_of_budget
from serve_app.dialects.server_tools import places_of_server_tools
from serve_app.dialects.stable_ids import digest_of
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

_MIN_OUTPUT: Final = 16


def write_request(request: ir.Request, model: str) -> Written:
    """The body for a provider. Raises InvalidRequest that names the client's field."""
    if request.stop:
        at = request.path_of("stop")
        raise InvalidRequest(f"{at}: this model's dialect has no stop sequences; leave it out", at)
    dropped = places_of_server_tools(request)
    writer = InputWriter(request)
    body: dict[str, Json] = {"model": model, **writer.write()}
    body |= _tools(request)
    body |= _sampling(request, dropped)
    body |= _reasoning(request, model, dropped)
    body |= _text(request)
    body |= _account(request, dropped)
    include = [LOGPROBS] if request.sampling.logprobs else []
    if not refuses_reasoning(model):
        include.append(ENCRYPTED)
    if include:
        body["include"] = include
    if request.stream:
        body["stream"] = True
    if any(tool.cache for tool in request.tools):
        dropped.append("cache_control")
    return Written(body, tuple(dict.fromkeys([*dropped, *writer.dropped])))


def _tools(request: ir.Request) -> dict[str, Json]:
    if not request.tools:
        return {}
    body: dict[str, Json] = {"tools": _grouped(request.tools)}
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, request.tools)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _grouped(tools: tuple[ir.Tool, ...]) -> list[Json]:
    """The tools, those of one namespace together."""
    written: list[Json] = []
    namespaces: dict[str, list[Json]] = {}
    for tool in tools:
        if tool.namespace is None:
            written.append(_tool(tool))
            continue
        if tool.namespace not in namespaces:
            namespaces[tool.namespace] = []
            written.append(
                {
                    "type": "namespace",
                    "name": tool.namespace,
                    "description": tool.namespace,
                    "tools": namespaces[tool.namespace],
                }
            )
        namespaces[tool.namespace].append(_tool(tool))
    return written


def _tool(tool: ir.Tool) -> dict[str, Json]:
    written: dict[str, Json] = {"type": _kind(tool), "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.is_custom:
        return {**written, "format": tool.custom_format} if tool.custom_format else written
    written["parameters"] = parameters_of(tool)
    written["strict"] = bool(tool.strict)  # true where it is missing, unlike in other dialects
    return written


def _kind(tool: ir.Tool) -> str:
    return "custom" if tool.is_custom else "function"


def _tool_choice(choice: ir.ToolChoice, tools: tuple[ir.Tool, ...]) -> Json:
    kinds = {tool.name: _kind(tool) for tool in tools}
    if choice.mode is ir.ToolMode.NAMED:
        return {"type": kinds.get(choice.name or "", "function"), "name": choice.name}
    if not choice.allowed or choice.mode is ir.ToolMode.NONE:
        return str(choice.mode)
    allowed = [{"type": kinds.get(name, "function"), "name": name} for name in choice.allowed]
    return {"type": "allowed_tools", "mode": str(choice.mode), "tools": allowed}


def _sampling(request: ir.Request, dropped: list[str]) -> dict[str, Json]:
    sampling, body = request.sampling, dict[str, Json]()
    for name in ("temperature", "top_p"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.logprobs and sampling.top_logprobs is not None:
        body["top_logprobs"] = sampling.top_logprobs
    unknown = ("top_k", "seed", "frequency_penalty", "presence_penalty", "logit_bias")
    dropped += [request.path_of(name) for name in unknown if getattr(sampling, name) is not None]
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = max(_MIN_OUTPUT, request.max_output_tokens)
        if request.max_output_tokens < _MIN_OUTPUT:
            dropped.append(request.path_of("max_output_tokens"))
    return body


def _reasoning(request: ir.Request, model: str, dropped: list[str]) -> dict[str, Json]:
    wanted = request.reasoning
    if wanted is None:
        return {}
    body: dict[str, Json] = {}
    effort = wanted.effort
    if effort is None and wanted.enabled is not False:
        effort = effort_of_budget(wanted.budget_tokens)
    if effort is not None:
        body["effort"] = effort
    summary = wanted.summary
    if summary is None and wanted.enabled:  # the client shows what the model thinks
        summary = "auto"
    if summary is not None and summary != "none":
        body["summary"] = summary
    if refuses_reasoning(model) or not body:
        dropped.append(request.path_of("reasoning"))
        return {}
    return {"reasoning": body}


def _text(request: ir.Request) -> dict[str, Json]:
    text: dict[str, Json] = {}
    if request.json_format is not None:
        text["format"] = _format(request.json_format)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return {"text": text} if text else {}


def _format(form: ir.JsonFormat) -> dict[str, Json]:
    if form.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", **schema_fields(form)}


def _account(request: ir.Request, dropped: list[str]) -> dict[str, Json]:
    """What is about the account and the bill."""
    body: dict[str, Json] = {"store": bool(request.store)}
    if request.user:
        body["user"] = _user(request.user)
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    if request.prompt_cache_key:
        body["prompt_cache_key"] = request.prompt_cache_key
    if request.service_tier and request.dialect in OPENAI:
        body["service_tier"] = request.service_tier
    elif request.service_tier:
        dropped.append(request.path_of("service_tier"))
    return body


def _user(name: str) -> str:
    """The client's name of its user; the API refuses longer ones and recommends a hash."""
    return name if len(name) <= MAX_USER else digest_of(name)
