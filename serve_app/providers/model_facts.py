"""What families of models do not take, independent of the provider: fields, values, kinds of input."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from serve_app.dialects.json_edits import NO_QUIRK, Quirk
from serve_app.domain import Need
from serve_app.exchange import Operation


@dataclass(frozen=True, slots=True)
class ModelQuirk:
    """The quirk of some models of a provider, in some operations."""

    names: str
    """A pattern that matches the whole name of a model."""
    quirk: Quirk
    operations: frozenset[Operation] = frozenset({Operation.CHAT})


def _set(*names: str) -> frozenset[str]:
    return frozenset(names)


OPENAI_REASONING: Final = (
    ModelQuirk(
        r"(.*/)?(o[1-9]|gpt-[5-9])([.-].*)?",
        Quirk(rename={"max_tokens": "max_completion_tokens"}),
    ),
    ModelQuirk(
        r"(.*/)?(o[1-9](-(mini|pro|preview))?|gpt-5(-(mini|nano|pro))?)(-\d{4}-\d{2}-\d{2})?",
        Quirk(values={"temperature": {1: 1}}),
        frozenset({Operation.CHAT, Operation.RESPONSES}),
    ),
)
"""Reasoning models accept neither the older name of the limit nor a temperature other than 1."""

KIMI_K3: Final = ModelQuirk(
    "kimi-k3",
    Quirk(
        drop=_set("temperature", "top_p", "n", "presence_penalty", "frequency_penalty"),
        values={
            "reasoning_effort": {
                **dict.fromkeys(("none", "minimal", "low"), "low"),
                **dict.fromkeys(("medium", "high"), "high"),
                "max": "max",
            }
        },
    ),
)
_EVERYWHERE: Final = (
    ModelQuirk(
        "kimi-for-coding",
        Quirk(
            drop=_set(
                "reasoning_effort", "service_tier", "store", "stream_options", "thinking",
                "web_search_options",
            )
        ),
    ),
)  # fmt: skip
"""Quirks of models, whichever provider serves them."""


def quirk_by_name(own: Iterable[ModelQuirk], name: str, operation: Operation) -> Quirk:
    """The quirks of a provider (``own``) and of a model anywhere, merged into one."""
    quirks = [
        quirky.quirk
        for quirky in (*own, *_EVERYWHERE)
        if operation in quirky.operations and re.fullmatch(quirky.names, name)
    ]
    return _merged(quirks) if quirks else NO_QUIRK


def _merged(quirks: Iterable[Quirk]) -> Quirk:
    drop: frozenset[str] = frozenset()
    rename: dict[str, str] = {}
    values: dict[str, Mapping[str | float, str | float]] = {}
    add: dict[str, str] = {}
    for quirk in quirks:
        drop |= quirk.drop
        rename.update(quirk.rename)
        values.update(quirk.values)
        add.update(quirk.add)
    return Quirk(drop, rename, values, add)


_NO_IMAGES: Final = frozenset({Need.IMAGES})
_LACKS: Final[tuple[tuple[re.Pattern[str], frozenset[Need]], ...]] = tuple(
    (re.compile(rf"(.*/)?({names})(-\d{{4}}(-\d{{2}}-\d{{2}})?)?"), lacks)
    for names, lacks in (
        (r"gpt-3\.5-turbo(-16k)?|gpt-4(-32k)?", frozenset({Need.IMAGES, Need.STRUCTURED_OUTPUT})),
        (r"o1-(mini|preview)", frozenset(Need)),
        (r"o3-mini", _NO_IMAGES),
        (r"deepseek-(chat|reasoner)", _NO_IMAGES),
    )
)
"""Sources: OpenAI, "Models" and "Structured outputs"; DeepSeek API Docs, "Create Chat Completion"."""


def known_to_lack(name: str) -> frozenset[Need]:
    """What a model is known not to take; empty for most."""
    return next((lacks for names, lacks in _LACKS if names.fullmatch(name)), frozenset())
