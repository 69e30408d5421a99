"""The list of models in both dialects."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.api.model_directory import CurrentDirectory, ModelDirectory
from serve_app.api.models import render_model, render_models
from serve_app.errors import InvalidRequest
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/gpt-4o, access_key: sk-1}}
  - {{model: openai/*, access_key: sk-1, max_output_tokens: 7}}
  - {{model: anthropic/claude-sonnet-4-5, access_key: sk-1, display_name: Sonnet, description: "For work"}}
  - {{model: vllm/b, base_url: "http://h:1", max_input_tokens: 9000, max_output_tokens: 500}}
  - {{model: vllm/b, base_url: "http://h:2", max_input_tokens: 8000, display_name: Bee}}
  - {{model: vllm/c, base_url: "http://h:1", default: true}}
model_aliases:
  fast: {{target: openai/gpt-4o}}
  claude: {{target: anthropic/claude-sonnet-4-5}}
  own: {{target: vllm/b, display_name: Own, description: "My own"}}
  claude-auto: {{target: auto}}
  named-auto: {{target: auto, display_name: Auto, description: "Any of them"}}
"""
ROUTES = """
routing_preferences:
  - {name: code, description: d, models: [openai/gpt-4o, vllm/b]}
  - {name: poems, description: d, models: [anthropic/claude-sonnet-4-5]}
"""


def page(path: Path, text: str, query: dict[str, str] | None = None) -> Any:
    """The page that a client of Anthropic gets."""
    entries = ModelDirectory(snapshot_of(path, text)).entries
    return render_models(entries, anthropic=True, query=query or {})


def entry(path: Path, name: str, text: str = TEXT + ROUTES) -> Any:
    """One entry in Anthropic's shape."""
    directory = ModelDirectory(snapshot_of(path, text))
    return render_model(directory.entry(name), anthropic=True)


def test_openai_page_names_owner(tmp_path: Path) -> None:
    """In the OpenAI page a model is owned by its provider and an alias by the gateway."""
    directory = ModelDirectory(snapshot_of(tmp_path, TEXT))
    shown: Any = render_models(directory.entries, anthropic=False, query={"limit": "none"})
    assert shown["object"] == "list"
    owners = {one["id"]: one["owned_by"] for one in shown["data"]}
    assert owners["openai/gpt-4o"] == "openai"
    assert owners["fast"] == owners["claude-auto"] == "fingerpost"
    assert render_model(directory.entry("fast"), anthropic=False) in shown["data"]


def test_openai_entry_has_known_limits(tmp_path: Path) -> None:
    """An entry of the OpenAI page has the same facts, and no name for people."""
    directory = ModelDirectory(snapshot_of(tmp_path, TEXT))
    assert render_model(directory.entry("own"), anthropic=False) == {
        "id": "own",
        "object": "model",
        "created": 0,
        "owned_by": "fingerpost",
        "description": "My own",
        "max_input_tokens": 8000,
        "max_tokens": 500,
    }
    assert set(render_model(directory.entry("vllm/c"), anthropic=False)) == {
        "id",
        "object",
        "created",
        "owned_by",
    }


@pytest.mark.parametrize(
    ("name", "display_name", "description", "limits"),
    [
        ("openai/gpt-4o", "openai/gpt-4o", None, (128_000, None)),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini", None, (128_000, 7)),
        ("fast", "fast", "Another name of openai/gpt-4o", (128_000, None)),
        ("gpt-4o", "openai/gpt-4o", None, (128_000, None)),
        ("claude", "Sonnet", "For work", (200_000, 64_000)),
        ("vllm/b", "Bee", None, (8000, 500)),
        ("own", "Own", "My own", (8000, 500)),
        ("named-auto", "Auto", "Any of them", (8000, 500)),
        ("vllm/c", "vllm/c", None, (None, None)),
    ],
)
def test_entry_says_what_is_known(
    name: str,
    display_name: str,
    description: str | None,
    limits: tuple[int | None, int | None],
    tmp_path: Path,
) -> None:
    """Configured values win over known ones, and the least of several entries counts."""
    shown = entry(tmp_path, name)
    assert shown["id"] == name
    assert shown["display_name"] == display_name
    assert shown.get("description") == description
    assert (shown.get("max_input_tokens"), shown.get("max_tokens")) == limits


def test_routed_alias_describes_routes(tmp_path: Path) -> None:
    """An alias of auto names the routes, and has the least limits of their models."""
    shown = entry(tmp_path, "claude-auto")
    assert shown["display_name"] == "claude-auto (routed)"
    about = "by what the conversation is about"
    assert shown["description"] == f"Chooses between code and poems {about}"
    assert (shown["max_input_tokens"], shown["max_tokens"]) == (8000, 500)
    assert entry(tmp_path, "auto") == {**shown, "id": "auto", "display_name": "auto"}
    one = TEXT + ROUTES.rpartition("  - ")[0]
    assert entry(tmp_path, "claude-auto", one)["description"] == f"Chooses code {about}"
    many = (
        TEXT
        + ROUTES
        + "".join(
            f"  - {{name: r{number}, description: d, models: [vllm/c]}}\n" for number in range(5)
        )
    )
    listed = "code, poems, r0, r1 and 3 more"
    described = entry(tmp_path, "claude-auto", many)["description"]
    assert described == f"Chooses between {listed} {about}"
    assert len(described) < 100


def test_routed_alias_without_routes_names_default(tmp_path: Path) -> None:
    """Without routes it goes to the default model; without that as well, nothing is said."""
    assert entry(tmp_path, "claude-auto", TEXT)["description"] == "Goes to vllm/c"
    text = TEXT.replace(", default: true", "")
    assert "description" not in entry(tmp_path, "claude-auto", text)


def test_anthropic_page_has_cursors(tmp_path: Path) -> None:
    """The Anthropic page lists the names in order, with the first and the last as cursors."""
    names = snapshot_of(tmp_path, TEXT).policy.names()
    whole = page(tmp_path, TEXT, {"limit": "1000", "beta": "true"})
    assert [one["id"] for one in whole["data"]] == names
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (names[0], names[-1], False)


def test_pages_join_to_whole_list(tmp_path: Path) -> None:
    """Following either cursor until there are no more entries shows every name once."""
    names = snapshot_of(tmp_path, TEXT).policy.names()
    for cursor, last, back in (("after_id", "last_id", False), ("before_id", "first_id", True)):
        seen: list[str] = []
        query = {"limit": "4", **({"before_id": names[-1]} if back else {})}
        while True:
            part = page(tmp_path, TEXT, query)
            ids = [one["id"] for one in part["data"]]
            seen = [*ids, *seen] if back else [*seen, *ids]
            if not part["has_more"]:
                break
            query = {"limit": "4", cursor: part[last]}
        assert seen == (names[:-1] if back else names)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        *(
            ({"limit": value}, "limit must be an integer from 1 to 1000")
            for value in ("0", "1001", "-1", "", "x", "1.0", "٣", "99999999999")
        ),
        ({"after_id": "x"}, "after_id must be an id of this list, not 'x'; start without after_id"),
        (
            {"before_id": ""},
            "before_id must be an id of this list, not ''; start without before_id",
        ),
    ],
)
def test_invalid_query_is_refused(query: dict[str, str], message: str, tmp_path: Path) -> None:
    """The error names the parameter and what it takes."""
    with pytest.raises(InvalidRequest) as caught:
        page(tmp_path, TEXT, query)
    assert str(caught.value) == message
    assert caught.value.param in query


def test_page_without_models_is_empty(tmp_path: Path) -> None:
    """A page without entries has null cursors."""
    shown = page(tmp_path, f"{V}model_providers: []\n")
    assert shown == {"data": [], "has_more": False, "first_id": None, "last_id": None}


async def test_directory_is_compiled_once_for_each_snapshot(tmp_path: Path) -> None:
    """A request that finds the directory of its snapshot uses it."""
    current, first = CurrentDirectory(), snapshot_of(tmp_path, TEXT)
    directory = await current.of(first)
    assert await current.of(first) is directory
    assert await current.of(snapshot_of(tmp_path, TEXT)) is not directory
