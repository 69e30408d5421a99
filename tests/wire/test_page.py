"""The page's own API over HTTP: who gets what, and what is refused."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve_app.api.playground import stream
from serve_app.api.playground.files import static_files
from tests.scripted_provider import ScriptedProvider
from tests.site import PROMPTS, ROUTES, SECRET, Answered, Site, eventually, write_config
from tests.wire.conftest import serve_api

KEY, OTHER = "fp-client-key-1", "fp-client-key-2"
ENVIRON = {"FINGERPOST_TEST_KEY": SECRET, "CLIENT_KEY": KEY, "OTHER_KEY": OTHER}
PAGE = {"x-fingerpost-page": "1"}


@contextmanager
def configured(
    folder: Path, providers: dict[str, ScriptedProvider], peer: str | None = None, **keys: Any
) -> Iterator[Site]:
    file = write_config(folder, providers)
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
    with serve_api(file, providers, ENVIRON, peer=peer) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway with two client keys."""
    folder = tmp_path_factory.mktemp("keyed")
    with configured(folder, providers, client_keys=["$CLIENT_KEY", "$OTHER_KEY"]) as running:
        yield running


def get(site: Site, path: str, **headers: str) -> Answered:
    return site.send(method="GET", path=path, headers={**PAGE, **_dashed(headers)})


def post(site: Site, path: str, body: Any, **headers: str) -> Answered:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.send(sent, path=path, headers={**PAGE, **_dashed(headers)})


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def live(site: Site, query: str = "", key: str = "") -> Iterator[Iterator[Any]]:
    """The events of the live stream."""
    line = http.client.HTTPConnection(site.host, site.port, timeout=10)
    line.request("GET", f"/ui/api/live{query}", headers={**PAGE, "x-fingerpost-key": key})
    answer = line.getresponse()
    assert answer.status == 200, answer.read()

    def events() -> Iterator[Any]:
        while text := answer.readline():
            if text.startswith(b"data: "):
                yield json.loads(text[6:])

    try:
        yield events()
    finally:
        answer.close()
        line.close()


@pytest.mark.parametrize("name", ["", *static_files()])
def test_files_are_served_with_protecting_headers(site: Site, name: str) -> None:
    """Each has its type, a policy without inline scripts, and no frame around it."""
    answer = site.send(method="GET", path=f"/ui/{name}")
    assert answer.status == 200
    assert answer.body
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    tag = answer.headers["etag"]
    again = site.send(method="GET", path=f"/ui/{name}", headers={"if-none-match": tag})
    assert (again.status, again.body) == (304, b"")


def test_files_name_no_other_place() -> None:
    """Nothing is loaded from elsewhere, and no script or style is written into the page."""
    for name, file in static_files().items():
        text = file.content.decode()
        for word in ("https://", "innerHTML", "outerHTML", "insertAdjacent", "eval(", " style="):
            assert word not in text, name
        assert text.count("http://") == text.count("http://www.w3.org/2000/svg"), name
    assert sum(len(file.content) for file in static_files().values()) < 100_000


def test_address_without_slash_leads_to_the_page(site: Site) -> None:
    """The redirect is relative, so that it holds below any prefix."""
    answer = site.send(method="GET", path="/ui")
    assert (answer.status, answer.headers["location"]) == (307, "ui/")
    assert site.send(method="GET", path="/prefix/ui/app.js").status == 200
    assert get(site, "/prefix/ui/api/config").status == 200
    assert site.send(method="GET", path="/ui/nothing.js").status == 404
    assert site.send(method="GET", path="/ui/../secret").status == 404
    assert get(site, "/ui/api/nothing").status == 404


def test_page_that_is_off_is_not_there(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """One switch removes the files and every call."""
    with configured(tmp_path, providers, ui={"enabled": False}) as site:
        for path in ("/ui", "/ui/", "/ui/app.js", "/ui/api/config", "/ui/api/live"):
            assert get(site, path).status == 404
        assert post(site, "/ui/api/decide", {"input": "hi"}).status == 404
        site.alive()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"host": "["}, 403),
        ({"origin": "http://localhost:5173"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost:1"}, 200),
    ],
)
def test_calls_come_from_the_page_itself(site: Site, headers: dict[str, str], status: int) -> None:
    """Neither another site, nor a name of another site that points to this machine, may call."""
    answer = site.send(method="GET", path="/ui/api/config", headers={**PAGE, **headers})
    assert answer.status == status, answer.body
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["config", "health", "live"])
def test_calls_need_the_header_of_the_page(site: Site, path: str) -> None:
    """A form or an image of another site cannot send it."""
    answer = site.send(method="GET", path=f"/ui/api/{path}")
    assert (answer.status, answer.error["code"]) == (403, "page_refused")


@pytest.mark.parametrize("path", ["decide", "compare"])
def test_costly_calls_need_the_header_of_the_page(site: Site, path: str) -> None:
    """Even with the right body."""
    answer = site.send(b'{"input": "hi"}', path=f"/ui/api/{path}")
    assert (answer.status, answer.error["code"]) == (403, "page_refused")


def test_anonymous_clients_from_elsewhere_get_no_page(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """`allow_anonymous` opens the models to other machines, not the page."""
    with configured(tmp_path, providers, "203.0.113.9", allow_anonymous=True) as site:
        assert site.ask("fast").status == 200
        for path in ("/ui/", "/ui/api/config"):
            answer = get(site, path)
            assert (answer.status, answer.error["code"]) == (403, "page_refused")


def test_client_key_opens_what_the_page_shows(keyed: Site) -> None:
    """The files are for every browser, what they show is for clients with a key."""
    for path in ("/ui/", "/ui/app.js"):
        assert (
            keyed.send(method="GET", path=path, headers={"host": "gateway.example"}).status == 200
        )
    for path in ("config", "health", "live"):
        assert get(keyed, f"/ui/api/{path}").status == 401
        assert get(keyed, f"/ui/api/{path}", x_fingerpost_key="wrong").status == 401
    assert get(keyed, "/ui/api/config", x_fingerpost_key=KEY).status == 200
    assert post(keyed, "/ui/api/decide", {"input": "hi"}).status == 401


def test_configuration_has_no_key(keyed: Site) -> None:
    """Neither of providers nor of clients, nor an address."""
    for path in ("config", "health"):
        text = get(keyed, f"/ui/api/{path}", x_fingerpost_key=KEY).body.decode()
        for secret in (KEY, OTHER, SECRET, "CLIENT_KEY", "FINGERPOST_TEST_KEY", "http://"):
            assert secret not in text
    shown = get(keyed, "/ui/api/config", x_fingerpost_key=KEY).json
    assert shown["keeps"] == {"decisions": 500, "texts": False, "all_clients": False}
    assert [route["name"] for route in shown["routes"]] == [route["name"] for route in ROUTES]
    assert {"name": "smart", "model": None} in shown["aliases"]


def test_holder_of_a_key_sees_its_own_decisions(keyed: Site) -> None:
    """And of these no text, as long as the operator has not allowed that."""
    for key in (KEY, OTHER, KEY):
        body = json.dumps({"messages": [{"role": "user", "content": PROMPTS["code"]}]})
        keyed.send(body.encode(), headers={"x-fingerpost-key": key})
    with live(keyed, key=OTHER) as events:
        (decision,) = next(events)["decisions"]
    assert decision["route"] == "code"
    assert decision["text"] == ""
    with live(keyed, key=KEY) as events:
        assert len(next(events)["decisions"]) == 2
    compared = post(keyed, "/ui/api/compare", {"edit": {}}, x_fingerpost_key=KEY).json
    assert (compared["kept"], compared["decided"]) == (2, 0)


def test_live_stream_has_decisions_as_they_come(site: Site) -> None:
    """First those that are kept, then each new one; a reader that was there gets only the rest."""
    site.ask("dedicated/parrot")
    with live(site) as events:
        first = next(events)
        assert first["decisions"][-1]["reason"] == "explicit"
        site.send(
            json.dumps({"messages": [{"role": "user", "content": PROMPTS["translation"]}]}).encode()
        )
        (decision,) = next(events)["decisions"]
    assert decision["route"] == "translation"
    assert decision["text"] == PROMPTS["translation"]
    assert decision["attempts"][0]["outcome"] == "ok"
    assert decision["scores"]["translation"] == pytest.approx(decision["confidence"])
    last, replica = first["last"], first["replica"]
    with live(site, f"?after={last}&replica={replica}") as events:
        assert len(next(events)["decisions"]) == 1
    with live(site, f"?after={last}&replica=other") as events:
        assert len(next(events)["decisions"]) > 1
    with live(site, "?after=x") as events:
        assert next(events)["decisions"]


def test_live_streams_are_bounded(site: Site) -> None:
    """One too many is refused, and those that leave make room."""
    lines = []
    for _ in range(stream.MAX_STREAMS):
        line = http.client.HTTPConnection(site.host, site.port, timeout=10)
        line.request("GET", "/ui/api/live", headers=PAGE)
        assert line.getresponse().readline().startswith(b"data: ")
        lines.append(line)
    refused = get(site, "/ui/api/live")
    assert (refused.status, refused.error["code"]) == (429, "page_busy")
    for line in lines:
        line.close()

    def has_room() -> bool:
        line = http.client.HTTPConnection(site.host, site.port, timeout=10)
        line.request("GET", "/ui/api/live", headers=PAGE)
        status = line.getresponse().status
        line.close()
        return status == 200

    eventually(has_room, 5)


def test_pasted_conversation_is_decided(site: Site) -> None:
    """With scores, candidates and their prices, headers, and the YAML of the routes."""
    shown = post(site, "/ui/api/decide", {"input": PROMPTS["code"]}).json
    decision = shown["decision"]
    assert decision["route"] == "code"
    assert decision["candidates"][0] == {
        "model": "dedicated/coder",
        "why": "model 1 of route 'code'",
        "price": None,
    }
    assert ["x-fingerpost-route", "code"] in shown["headers"]
    assert shown["read_as"] == "text"
    assert "- name: code" in shown["yaml"]
    explained = site.explain(PROMPTS["code"])
    assert explained["orchestrator"]["scores"] == decision["orchestrator"]["scores"]


def test_trials_leave_no_trace(site: Site) -> None:
    """They are not among the decisions, and no provider hears of them."""
    with live(site) as events:
        before = next(events)["last"]
    asked = [len(provider.ledger.exchanges) for provider in site.providers.values()]
    for _ in range(3):
        post(site, "/ui/api/decide", {"input": "something new"})
    with live(site) as events:
        assert next(events)["last"] == before
    assert asked == [len(provider.ledger.exchanges) for provider in site.providers.values()]


def test_body_that_names_its_model_can_be_decided_by_content(site: Site) -> None:
    """By default a name is obeyed, as for a request."""
    body = {"model": "shared/parrot", "messages": [{"role": "user", "content": PROMPTS["code"]}]}
    named = post(site, "/ui/api/decide", {"input": json.dumps(body)}).json
    assert (named["decision"]["reason"], named["names"]) == ("explicit", "shared/parrot")
    asked = {"input": json.dumps(body), "by_content": True, "dialect": "chat"}
    assert post(site, "/ui/api/decide", asked).json["decision"]["route"] == "code"


def test_edit_changes_decisions_and_says_which(site: Site) -> None:
    """The last decisions are decided again, and compared with what they were."""
    for prompt in PROMPTS.values():
        site.send(json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode())
    edit = {"routing_preferences": [route for route in ROUTES if route["name"] != "code"]}
    shown = post(site, "/ui/api/decide", {"input": PROMPTS["code"], "edit": edit}).json
    assert "code" not in shown["decision"]["orchestrator"]["scores"]
    assert shown["decision"]["policy"].startswith("edited-")
    compared = post(site, "/ui/api/compare", {"edit": edit}).json
    assert compared["is_complete"]
    moved = [row for row in compared["rows"] if row["changed"]]
    assert {row["before"]["route"] for row in moved} == {"code"}
    assert compared["changed"] == len(moved) >= 1
    counts = {entry["route"]: entry for entry in compared["routes"]}
    assert counts["code"]["after"] == 0
    assert counts["translation"]["before"] == counts["translation"]["after"]


def test_faulty_calls_are_refused_as_faults_of_the_client(site: Site) -> None:
    """Bodies that are not JSON, too large ones, and edits with unknown models."""
    assert post(site, "/ui/api/decide", b"{").status == 400
    edit = {"routing_preferences": [{"name": "a", "description": "b", "models": ["nothing/x"]}]}
    answer = post(site, "/ui/api/decide", {"input": "hi", "edit": edit})
    assert answer.status == 400
    assert answer.error["param"] == "routing_preferences[0].models[0]"
    assert post(site, "/ui/api/compare", {"edit": edit}).status == 400
    huge = {"content-length": str(1 << 40)}
    assert site.send(None, path="/ui/api/decide", headers={**PAGE, **huge}).status == 413
    assert get(site, "/ui/api/decide").status == 405


def test_health_names_endpoints_that_rest(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """With the reason and what is left of the rest."""
    with configured(tmp_path, providers) as site:
        for _ in range(4):
            site.ask("dead/gone")
        entries = get(site, "/ui/api/health").json["endpoints"]
    (dead,) = [entry for entry in entries if "dead/gone" in entry["models"]]
    assert dead["rests"][0]["seconds"] > 0
    assert dead["rests"][0]["why"]
    shared = next(entry for entry in entries if "shared/parrot" in entry["models"])
    assert "shared/*" in shared["models"]
    assert shared["rests"] == []
