"""The generated pages: current, and their tables are what the real gateway does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from serve_app.api.surfaces import SURFACES
from serve_app.cli import reference_pages
from serve_app.cli.reference_pages import HEADERS, MISSING, SERVED, STORED, ServedPath, pages
from serve_app.config.locations import ConfigError
from serve_app.domain import Reason
from serve_app.snapshot import compile_snapshot
from tests.docs.commands import run
from tests.scripted_provider import ScriptedProvider
from tests.site import PROMPTS, Answered, Site, write_config
from tests.stateful_provider import StatefulProvider, entries_of
from tests.wire.conftest import serve_api

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = pages()
EXAMPLES: Final = {"NAME": "shared/parrot"}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """The contract's gateway, without Ray, and with a routing rule."""
    with StatefulProvider() as keeper:
        folder = tmp_path_factory.mktemp("pages")
        config = write_config(folder, providers, entries_of(keeper.url))
        rule = {"name": "r", "match": {"headers": {"x-rule": "*"}}, "model": "shared/parrot"}
        config.write_text(json.dumps({**json.loads(config.read_text()), "routing_rules": [rule]}))
        with serve_api(config, providers, {"FINGERPOST_TEST_KEY": "sk-test"}) as running:
            yield running


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_current(name: str) -> None:
    """Each is what `make reference` would write now."""
    assert (ROOT / name).read_text("utf-8") == PAGES[name], "run `make reference` and commit"


def test_make_reference_writes_the_pages(tmp_path: Path) -> None:
    """At their places below the project, and nothing else."""
    (tmp_path / "docs/reference").mkdir(parents=True)
    reference_pages.write_pages(tmp_path)
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.md")}
    assert written == set(PAGES)
    assert "serve_app.cli.reference_pages" in (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.parametrize("path", [path for gap in MISSING for path in gap.paths])
def test_missing_path_is_a_404(path: str, site: Site) -> None:
    """Once it is served, its row leaves MISSING, and README with it."""
    answer = site.send(b'{"model": "shared/parrot"}', path=path)
    assert answer.status == 404
    assert "unknown_path" in answer.body.decode() or "not_found" in answer.body.decode()


@pytest.mark.parametrize("surface", SERVED, ids=lambda surface: surface.path)
def test_served_path_is_there(surface: ServedPath, site: Site) -> None:
    """By each of its methods; a body that is not valid is answered as such."""
    path = surface.path
    for word, example in EXAMPLES.items():
        path = path.replace(word, example)
    for method in surface.methods:
        answer = site.send(b"{" if method == "POST" else None, method=method, path=path)
        assert answer.status == (400 if method == "POST" else 200)


@pytest.mark.parametrize("stored", STORED, ids=lambda path: f"{path.methods[0]} {path.path}")
def test_stored_path_is_there(stored: ServedPath, site: Site) -> None:
    """An id that is not known is answered as such."""
    (method,) = stored.methods
    answer = site.send(b"{}", method=method, path=stored.path)
    assert (answer.status == 200) == (stored.path == "/v1/conversations")
    assert answer.status == 200 or answer.error["code"].endswith(
        "conversation_not_found" if "conversations" in stored.path else "response_not_found"
    )


def test_keys_of_clients_have_no_limits(tmp_path: Path) -> None:
    """A key is a string and nothing more, and Plano's limits are refused."""
    provider = "model_providers: [{model: openai/gpt-4o, access_key: $K}]"
    for name, rest in {
        "key": "client_keys: [{key: $A, requests: 5}]",
        "limit": "ratelimits: [{model: gpt-4o, selector: {key: x}, limit: {tokens: 1, unit: minute}}]",
    }.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"version: v0.4.0\n{provider}\n{rest}\n")
        with pytest.raises(ConfigError):
            compile_snapshot(file)


def test_health_of_a_provider_is_not_kept(site: Site) -> None:
    """A candidate that failed a moment ago is tried again."""
    for _ in range(3):
        answer = site.ask("dead/gone", fallbacks=["shared/parrot"])
        assert answer.status == 200
        assert answer.headers["x-fingerpost-attempts"] == "2"


def test_log_of_requests_is_not_configurable(tmp_path: Path) -> None:
    """The check knows traces, and no key for a log."""
    (tmp_path / "gateway.yaml").write_text(
        "version: v0.4.0\n"
        "model_providers: [{model: openai/gpt-4o, access_key: $K}]\n"
        "tracing: {random_sampling: 100}\n"
    )
    status, output = run("fingerpost check gateway.yaml", tmp_path)
    assert status == 0
    assert "tracing" not in output


def test_served_paths_are_those_of_the_registry() -> None:
    """All that take the body of a request; a dialect that is added brings its own."""
    assert {served.path for served in SERVED if "POST" in served.methods} == set(SURFACES)


def test_missing_and_served_do_not_overlap() -> None:
    """A path is in one of the tables."""
    assert not {path for gap in MISSING for path in gap.paths} & {s.path for s in SERVED}


def test_readme_has_the_table_of_what_is_missing() -> None:
    """As the table in code has it, before anything else but what the gateway is."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert "\n".join(reference_pages.missing_table()) in text
    assert text.index("## Missing today") == text.index("\n## ") + 1


def test_api_page_has_the_table_of_surfaces() -> None:
    """As the table in code has it."""
    text = (ROOT / "docs/reference/api.md").read_text("utf-8")
    assert "\n".join(reference_pages.served_table()) in text


def test_api_page_has_the_table_of_kept_responses() -> None:
    """As the table in code has it."""
    text = (ROOT / "docs/reference/api.md").read_text("utf-8")
    assert "\n".join(reference_pages.stored_table()) in text


def _ours(answer: Answered) -> set[str]:
    return {
        name for name in answer.names if name.startswith("x-fingerpost-") or name == "server-timing"
    }


def test_headers_are_those_that_the_gateway_sends(site: Site) -> None:
    """All together: with a route, with a session, by a rule, of a translation that leaves a field
    out, and of a request that its provider could not read as it was.
    """
    messages = [{"role": "user", "content": PROMPTS["code"]}]
    body = {"model": "auto", "messages": messages}
    routed = site.send(json.dumps(body).encode(), headers={"x-model-affinity": "pages"})
    ruled = site.send(json.dumps(body).encode(), headers={"x-rule": "yes"})
    named = site.ask("shared/parrot")
    asked = {"model": "shared/parrot", "max_tokens": 9, "messages": messages, "top_k": 5}
    translated = site.send(json.dumps(asked).encode(), path="/v1/messages")
    refused = site.ask("unknown/model")
    foreign = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "of another"}
    thought = {"model": "keeps/keeper", "store": False, "input": [foreign, messages[0]]}
    healed = site.send(json.dumps(thought).encode(), path="/v1/responses")
    assert _ours(healed) - _ours(named) == {"x-fingerpost-healed"}
    assert _ours(ruled) - _ours(named) == {"x-fingerpost-rule"}
    answers = (routed, ruled, named, translated, healed, refused)
    assert set().union(*map(_ours, answers)) == set(HEADERS)
    assert _ours(translated) - _ours(named) == {"x-fingerpost-dropped"}
    assert _ours(refused) == {"x-fingerpost-policy"}


def test_every_reason_has_a_line() -> None:
    """With the value that the header has."""
    page = PAGES["docs/reference/headers-and-errors.md"]
    assert all(f"\n| `{reason.value}` | " in page for reason in Reason)
