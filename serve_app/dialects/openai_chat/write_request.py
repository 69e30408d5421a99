"""A request for a provider of chat completions.

Source: OpenAI API reference, "Chat", "Create chat completion". Many servers refuse keys that they
do not know, so a key is written only where the client asked for what it does. The name of the limit
is the older one, which more servers take; a quirk renames it.
"""

from collections.abc import Iterator

from serve_app.dialects import ir
from serve_app.dialects.openai_chat.effort import is_strict
from serve_app.dialects.openai_chat.reasoning import CHAT
from serve_app.dialects.openai_chat.write_messages import MessageWriter
from serve_app.dialects.openai_requests import MAX_USER, OPENAI, parameters_of, schema_fields
from serve_app.dialects.protocol import Written
from serve_app.dialects.reasoning_effort import effort_of_budget
from serve_app.dialects.server_tools import places_of_server_tools
from serve_app.domain import Json


def write_request(request: ir.Request, model: str) -> Written:
    """The body for a provider. Raises InvalidRequest that names the client's field."""
    strict = is_strict(model)
    writer = MessageWriter(request.dialect, is_strict=strict)
    body: dict[str, Json] = {"model": model, "messages": writer.write(request.messages)}
    dropped: list[str] = []
    body |= _tools(request, writer, dropped)
    body |= _limits(request)
    body |= _extras(request, dropped, is_strict=strict)
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Written(body, (*writer.dropped, *dropped))


def _tools(request: ir.Request, writer: MessageWriter, dropped: list[str]) -> dict[str, Json]:
    choice = request.tool_choice
    dropped += places_of_server_tools(request)
    tools = [tool for tool in request.tools if _may_call(choice, tool.name)]
    for tool in tools:
        writer.note_cache(tool.cache)
    if not tools:
        return {}
    body: dict[str, Json] = {"tools": [_tool(tool) for tool in tools]}
    if choice is not None:
        body["tool_choice"] = choice.mode.value
        if choice.mode is ir.ToolMode.NAMED:
            body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _may_call(choice: ir.ToolChoice | None, name: str) -> bool:
    """False for a tool that the client excludes: only OpenAI has a field for that."""
    return choice is None or not choice.allowed or name in choice.allowed


def _tool(tool: ir.Tool) -> dict[str, Json]:
    function: dict[str, Json] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = parameters_of(tool)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _limits(request: ir.Request) -> dict[str, Json]:
    """What limits and steers the choice of tokens."""
    sampling = request.sampling
    values: dict[str, Json] = {
        "max_tokens": request.max_output_tokens,
        "stop": list(request.stop) or None,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logit_bias": sampling.logit_bias,
        "logprobs": sampling.logprobs,
        "top_logprobs": sampling.top_logprobs,
    }
    return {key: value for key, value in values.items() if value is not None}


def _extras(request: ir.Request, dropped: list[str], *, is_strict: bool) -> dict[str, Json]:
    """Fields that not every server has, as far as the client asks for what they do."""
    body: dict[str, Json] = {}
    if request.json_format is not None:
        body["response_format"] = _response_format(request.json_format)
    effort = _effort(request.reasoning)
    if effort is not None and not is_strict:
        body["reasoning_effort"] = effort
    if request.verbosity is not None:
        body["verbosity"] = request.verbosity
    if request.user is not None and len(request.user) <= MAX_USER:
        body["user"] = request.user
    if request.dialect in OPENAI:
        body |= _openai_extras(request)
    dropped += (request.path_of(name) for name in _unsaid(request, body))
    return body


def _openai_extras(request: ir.Request) -> dict[str, Json]:
    """Fields that mean what the client means by them only if it speaks a dialect of OpenAI."""
    body: dict[str, Json] = {}
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    if request.store:  # not storing is the default
        body["store"] = True
    if request.prompt_cache_key is not None and request.dialect == CHAT:
        body["prompt_cache_key"] = request.prompt_cache_key
    return body


def _unsaid(request: ir.Request, body: dict[str, Json]) -> Iterator[str]:
    """Fields of the request that have a value and are not in the body."""
    if request.sampling.top_k is not None:
        yield "top_k"
    if _says_how(request.reasoning) and "reasoning_effort" not in body:
        yield "reasoning"
    values = {
        "user": request.user,
        "metadata": request.metadata,
        "service_tier": request.service_tier,
        "store": request.store,
        "prompt_cache_key": request.prompt_cache_key,
    }
    yield from (name for name, value in values.items() if value and name not in body)


def _response_format(form: ir.JsonFormat) -> dict[str, Json]:
    if form.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": schema_fields(form)}


def _says_how(reasoning: ir.Reasoning | None) -> bool:
    """True if the client does not leave it to the model how to think."""
    if reasoning is None:
        return False
    return reasoning.enabled is False or _effort(reasoning) is not None


def _effort(reasoning: ir.Reasoning | None) -> str | None:
    """The effort; None where the client leaves it to the model.

    A client that turns thinking off gets ``none`` only if it names an effort too: most models do
    not know the value, and those that do not think refuse the field.
    """
    if reasoning is None:
        return None
    if reasoning.enabled is False:
        return None if reasoning.effort is None else "none"
    return reasoning.effort or effort_of_budget(reasoning.budget_tokens)
