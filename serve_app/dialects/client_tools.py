"""Makes the tools of a client plain functions, for a provider's dialect that has nothing else.

The responses dialect has namespaces, and *custom tools*, which take any text. A provider that has
neither gets functions, and the client gets calls of the tools that it declared.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, NamedTuple

from serve_app.dialects import ir
from serve_app.dialects.json_values import json_text
from serve_app.dialects.protocol import ToolLimits
from serve_app.dialects.stable_ids import digest_of, safe
from serve_app.domain import Json

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_DIGITS: Final = 8
_INPUT: Final = "input"


class _Key(NamedTuple):
    """What tells one tool from another."""

    namespace: str | None
    name: str

    @classmethod
    def of(cls, tool: ir.Tool | ir.ToolCall) -> "_Key":
        return cls(tool.namespace or None, tool.name)


@dataclass(frozen=True, slots=True)
class _Original:
    """A tool as the client knows it."""

    key: _Key
    is_custom: bool
    """The provider has it as a function."""


@dataclass(frozen=True, slots=True)
class ClientTools:
    """A request whose tools a provider's dialect can say, and the way back for the answer."""

    request: ir.Request
    """The same object if there is nothing to change."""
    dropped: tuple[str, ...] = ()
    """The client's paths of what a function cannot say."""
    _originals: Mapping[_Key, _Original] = field(default_factory=dict)
    """By the provider's key; only tools that the provider knows otherwise than the client."""

    @classmethod
    def of(cls, request: ir.Request, limits: ToolLimits) -> "ClientTools":
        """The request within the limits of a provider's dialect."""
        if _is_within(request, limits):
            return cls(request)
        return _Plain(request, limits).made()

    def restore(self, answer: ir.Answer) -> ir.Answer:
        """The answer with calls as the client knows its tools."""
        if not self._originals:
            return answer
        parts = tuple(
            self._restored(part) if isinstance(part, ir.ToolCall) else part for part in answer.parts
        )
        return replace(answer, parts=parts)

    def _restored(self, call: ir.ToolCall) -> ir.ToolCall:
        original = self.original_of(call)
        if original is None:
            return call
        return replace(
            call,
            name=original.key.name,
            namespace=original.key.namespace,
            is_custom=call.is_custom or original.is_custom,
            arguments=_input_of(call.arguments) if original.is_custom else call.arguments,
        )

    def restorer(self) -> "ToolRestorer":
        """Does for the events of one stream what ``restore`` does for an answer."""
        return ToolRestorer(self)

    def original_of(self, call: ir.ToolCall) -> _Original | None:
        """The tool that a provider calls; None if the client knows it by the same name."""
        return self._originals.get(_Key.of(call))


class ToolRestorer:
    """Restores the tool calls of one stream.

    The input of a custom tool comes in one piece, at the end: until then it may still turn out not
    to be in the field ``input``. All other events pass at once.
    """

    def __init__(self, tools: ClientTools) -> None:
        self._tools = tools
        self._held: list[str] | None = None
        """The arguments so far, while the open part is a call of a custom tool."""

    def feed(self, event: ir.Event) -> tuple[ir.Event, ...]:
        """The events that may now go on."""
        if isinstance(event, ir.PartStarted):
            return (self._start(event),)
        if self._held is None:
            return (event,)
        if isinstance(event, ir.Delta):
            self._held.append(event.text)
            return ()
        if isinstance(event, ir.PartEnded):
            text = _input_of("".join(self._held))
            self._held = None
            return (ir.Delta(text), event)
        return (event,)

    def _start(self, event: ir.PartStarted) -> ir.PartStarted:
        self._held = None
        if not isinstance(event.part, ir.ToolCall):
            return event
        original = self._tools.original_of(event.part)
        if original is None:
            return event
        call = replace(event.part, name=original.key.name, namespace=original.key.namespace)
        if original.is_custom:
            self._held = [call.arguments]
            call = replace(call, arguments="", is_custom=True)
        return ir.PartStarted(call)


class _Names:
    """Gives every tool a key within the limits that no other tool has.

    The declared tools come first, so that their names stay the same however the conversation goes
    on, and with them what a provider has cached.
    """

    def __init__(self, tools: tuple[ir.Tool, ...], limits: ToolLimits) -> None:
        self._limits = limits
        keys = [_Key.of(tool) for tool in tools]
        self._given = {key: key for key in keys if _fits(*key, limits)}
        self._taken = set(self._given)
        for key in keys:
            self.of(key)

    def of(self, key: _Key) -> _Key:
        """The key that the provider gets; always the same for the same one."""
        given = self._given.get(key)
        if given is None:
            given = next(free for free in self._candidates(key) if free not in self._taken)
            self._given[key] = given
            self._taken.add(given)
        return given

    def _candidates(self, key: _Key) -> Iterator[_Key]:
        wanted = key
        if key.namespace and not self._limits.has_namespaces:
            wanted = _Key(None, f"{key.namespace}__{key.name}")
        if _fits(*wanted, self._limits):
            yield wanted
        head = safe(wanted.name)[: max(0, self._limits.max_name - _DIGITS - 1)]
        for number in count():
            seed = f"{key.namespace or ''}\0{key.name}" + (f"\0{number}" if number else "")
            yield _Key(wanted.namespace, f"{head}_{digest_of(seed, _DIGITS)}")


class _Plain:
    """Rewrites one request."""

    def __init__(self, request: ir.Request, limits: ToolLimits) -> None:
        self._request = request
        self._limits = limits
        self._names = _Names(request.tools, limits)
        self._is_custom = {_Key.of(tool): tool.is_custom for tool in request.tools}
        self._originals: dict[_Key, _Original] = {}
        self._dropped: list[str] = []

    def made(self) -> ClientTools:
        request = replace(
            self._request,
            tools=tuple(self._tool(index, tool) for index, tool in enumerate(self._request.tools)),
            messages=tuple(self._message(message) for message in self._request.messages),
            tool_choice=self._choice(self._request.tool_choice),
        )
        return ClientTools(request, tuple(self._dropped), self._originals)

    def _given(self, tool: ir.Tool | ir.ToolCall) -> _Key:
        """The tool's key for the provider; notes the way back."""
        key = _Key.of(tool)
        given = self._names.of(key)
        # What the client declares now counts, not how an old call was written.
        becomes_function = self._is_custom.get(key, tool.is_custom) and not self._limits.has_custom
        if key != given or becomes_function:
            self._originals.setdefault(given, _Original(key, becomes_function))
        return given

    def _tool(self, index: int, tool: ir.Tool) -> ir.Tool:
        if _is_tool_within(tool, self._limits):
            return tool
        given = self._given(tool)
        tool = replace(tool, name=given.name, namespace=given.namespace)
        if not tool.is_custom or self._limits.has_custom:
            return tool
        if _is_grammar(tool.custom_format):
            at = tool.at or f"{self._request.path_of('tools')}[{index}]"
            self._dropped.append(f"{at}.format")
        return replace(
            tool,
            description=_with_grammar(tool),
            schema=_input_schema(),
            is_custom=False,
            custom_format=None,
        )

    def _message(self, message: ir.Message) -> ir.Message:
        parts = tuple(self._part(part) for part in message.parts)
        if all(part is old for part, old in zip(parts, message.parts, strict=True)):
            return message
        return replace(message, parts=parts)

    def _part(self, part: ir.Part) -> ir.Part:
        if isinstance(part, ir.ToolCall):
            return self._call(part)
        if isinstance(part, ir.ToolResult) and not _is_part_within(part, self._limits):
            return replace(part, is_custom=False)
        return part

    def _call(self, call: ir.ToolCall) -> ir.ToolCall:
        given = self._given(call)
        if given != _Key.of(call):  # also where it fits: its name may be another tool's now
            call = replace(call, name=given.name, namespace=given.namespace)
        if not call.is_custom or self._limits.has_custom:
            return call
        return replace(call, is_custom=False, arguments=_arguments_of(call.arguments))

    def _choice(self, choice: ir.ToolChoice | None) -> ir.ToolChoice | None:
        if choice is None:
            return None
        name = choice.name and self._chosen(choice.name)[0]
        allowed = [given for name in choice.allowed for given in self._chosen(name)]
        return replace(choice, name=name, allowed=tuple(dict.fromkeys(allowed)))

    def _chosen(self, name: str) -> list[str]:
        """The tools that a choice means, which has no namespaces: at least one."""
        keys = [_Key.of(tool) for tool in self._request.tools if tool.name == name]
        exact = _Key(None, name)
        if not keys or exact in keys:
            keys = [exact]
        return [self._names.of(key).name for key in keys]


def _fits(namespace: str | None, name: str, limits: ToolLimits) -> bool:
    if namespace and not limits.has_namespaces:
        return False
    return len(name) <= limits.max_name and _NAME.fullmatch(name) is not None


def _is_tool_within(tool: ir.Tool | ir.ToolCall, limits: ToolLimits) -> bool:
    return (limits.has_custom or not tool.is_custom) and _fits(tool.namespace, tool.name, limits)


def _is_part_within(part: ir.Part, limits: ToolLimits) -> bool:
    if isinstance(part, ir.ToolCall):
        return _is_tool_within(part, limits)
    return limits.has_custom or not (isinstance(part, ir.ToolResult) and part.is_custom)


def _is_within(request: ir.Request, limits: ToolLimits) -> bool:
    return all(_is_tool_within(tool, limits) for tool in request.tools) and all(
        _is_part_within(part, limits) for message in request.messages for part in message.parts
    )


def _input_schema() -> Json:
    return {
        "type": "object",
        "properties": {_INPUT: {"type": "string"}},
        "required": [_INPUT],
        "additionalProperties": False,
    }


def _arguments_of(text: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return json_text({_INPUT: text})


def _input_of(arguments: str) -> str:
    """The input of a custom tool; the text as it is if the model did not keep to the schema."""
    try:
        read = json.loads(arguments, strict=False)  # models write line breaks as they are
    except (ValueError, RecursionError):
        return arguments
    text = read.get(_INPUT) if isinstance(read, dict) else None
    return text if isinstance(text, str) else arguments


def _is_grammar(custom_format: Json) -> bool:
    """True if a format limits the input; plain text, which is the default, does not."""
    return isinstance(custom_format, dict) and custom_format.get("type") != "text"


def _with_grammar(tool: ir.Tool) -> str | None:
    """The tool's description, and its grammar, which the model is to keep to all the same.

    Source: OpenAI API reference, "Custom tool"; chat has the grammar one level deeper than
    responses.
    """
    if not _is_grammar(tool.custom_format):
        return tool.description
    nested = tool.custom_format.get("grammar")
    grammar = nested if isinstance(nested, dict) else tool.custom_format
    definition, syntax = grammar.get("definition"), grammar.get("syntax")
    if not isinstance(definition, str):
        return tool.description
    kind = f"{syntax} grammar" if isinstance(syntax, str) else "grammar"
    rule = f"`{_INPUT}` must match this {kind}:\n{definition}"
    return f"{tool.description}\n\n{rule}" if tool.description else rule
