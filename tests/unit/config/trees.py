"""Random configurations: from the keys of the schema, and from valid files."""

from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.inert import LegacyListeners

DEMOS = tuple(file.read_text("utf-8") for file in sorted(Path(__file__).parent.glob("demos/*")))

TEXTS = st.sampled_from(
    [
        *("openai/a", "openai/b", "openai/*", "vllm/a", "a", "/", "auto", "none", "", "x", "é\u2028"),
        *("http://h:1", "http://[", "$A", "5s", "1e3", "yes", "0o7", "~", "=", "<<", "v0.3.0", "\x00"),
        *("code", "chat", "model", "cost", "latency", "redis", "\u200b", "😀", "- x", "a: b", "# x"),
    ]
) | st.text(max_size=4)  # fmt: skip
NUMBERS = st.sampled_from([0, 1, -1, 5, 10**30, 0.5, -0.0, 1e400, float("nan")])
ODD = TEXTS | NUMBERS | st.booleans() | st.none() | st.dates()
DEEP = 2
JUNK = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def values_of(form: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that mostly fit a field of this type, and sometimes do not."""
    return st.one_of(*[_fitting(form, depth)] * 7, JUNK)


def _fitting(form: Any, depth: int) -> st.SearchStrategy[Any]:
    origin, inner = get_origin(form), get_args(form)
    if isinstance(form, type) and issubclass(form, BaseModel):
        return sections_of(form, depth + 1)
    if origin is Annotated:
        return _fitting(inner[0], depth)
    if origin in {Union, UnionType}:
        return st.one_of(*(_fitting(one, depth) for one in inner if one is not NoneType))
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is list:
        return st.lists(values_of(inner[0], depth), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXTS, values_of(inner[1], depth), max_size=3)
    if form in {int, float}:
        return NUMBERS
    return st.booleans() if form is bool else TEXTS


def sections_of(model: type[BaseModel], depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """A section with any of its keys, all required ones, and rarely an unknown one."""
    fields = model.model_fields
    known = {name: values_of(field.annotation, depth) for name, field in fields.items()}
    required = {name: known[name] for name, field in fields.items() if field.is_required()}
    optional = {name: value for name, value in known.items() if name not in required}
    extra = {"routing_preference": JUNK} if depth == 0 else {"modle": JUNK}
    return st.fixed_dictionaries(required, optional=optional | (extra if depth < DEEP else {}))


FILES = st.builds(
    lambda whole, older: {**whole, **older},
    sections_of(GatewayConfig),
    st.fixed_dictionaries(
        {"version": st.sampled_from(["v0.1", "0.1-beta", "v0.3.0", "v0.4.0", "v9", 1, None])},
        optional={
            "llm_providers": values_of(GatewayConfig.model_fields["model_providers"].annotation),
            "listeners": values_of(LegacyListeners),
        },
    ),
)
"""Whole files, older formats included."""

ENTRIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["openai/a", "openai/b", "ollama/c"])},
    optional={
        "access_key": st.sampled_from(["$A", "$B"]),
        "routing_preferences": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["code", "chat", "a b", "yes", "1e3", "é"])},
                optional={"description": st.sampled_from(["", "d", "x: y", "# no", "a\n\nb\n"])},
            ),
            max_size=3,
        ),
        "headers": st.dictionaries(st.sampled_from(["a", "b"]), st.just("x"), max_size=2),
        "base_url": st.sampled_from(["http://a", "http://b"]),
    },
)
_LISTENER = st.fixed_dictionaries(
    {}, optional={"port": st.just(1), "message_format": st.just("openai"), "timeout": st.just("5s")}
)
OLDER = st.fixed_dictionaries(
    {
        "version": st.sampled_from(["v0.1", "0.2.0", "v0.3.0", "v0.4.0"]),
        "models": st.lists(ENTRIES, min_size=1, max_size=3),
        "renamed": st.booleans(),
    },
    optional={
        "listeners": st.fixed_dictionaries(
            {}, optional={"egress_traffic": _LISTENER, "ingress_traffic": _LISTENER}
        ),
        "routing_preferences": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["code", "math"]), "description": st.just("top")}
            ).map(lambda route: {**route, "models": ["openai/a"]}),
            max_size=2,
        ),
        "model_aliases": st.builds(lambda: {"fast": {"target": "openai/a"}}),
    },
).map(
    lambda parts: {
        ("llm_providers" if parts["renamed"] else "model_providers"): parts["models"],
        **{key: value for key, value in parts.items() if key not in {"models", "renamed"}},
    }
)
"""Files whose older parts are valid."""
