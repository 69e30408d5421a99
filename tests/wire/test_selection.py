"""The order of a route's models, and the effort that a route asks of them, over HTTP."""

import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import pytest

from serve_app.domain import Question, Scores
from tests.scripted_provider import ScriptedProvider
from tests.site import CHAT, MESSAGES, RESPONSES, Answered, Site, question
from tests.wire.conftest import serve_api

ROUTES: Final[list[tuple[str, list[Any], str | None]]] = [
    ("price", ["inline/dear", "inline/cheap", "inline/unpriced"], "cheapest"),
    ("speed", ["inline/slow", "inline/quick"], "fastest"),
    ("size", ["inline/small", "inline/text-only", "inline/large"], None),
    (
        "effort",
        [
            {"model": "inline/status-500", "effort": "low"},
            {"model": "chat/parrot", "effort": "high"},
        ],
        None,
    ),
]
PRICES: Final = {
    "inline/dear": {"input": 9, "output": 9},
    "inline/cheap": {"input": 1, "output": 1},
}


class ByWord:
    """Finds the route that the user names."""

    async def score(self, question: Question) -> Scores:
        text = question.turns[-1].text
        name = next(route.name for route in question.routes if route.name in text)
        return Scores({name: 0.9}, 0.2, name)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Site]:
    """A gateway whose routes order their models in each way."""
    url = providers["inline"].url
    names = [model for _, models, _ in ROUTES for model in models if isinstance(model, str)]
    limits: dict[str, dict[str, Any]] = {
        "inline/small": {"max_input_tokens": 200},
        "inline/text-only": {"lacks": ["images"]},
    }
    common = {"base_url": url, "provider_interface": "vllm", "data_path": "inline"}
    entries = [{"model": name, **common, **limits.get(name, {})} for name in names]
    operations = ["chat", "messages", "responses"]
    entries.append({"model": "inline/status-500", **common, "operations": operations})
    entries.append({"model": "chat/parrot", **common, "operations": ["chat"]})
    config = {
        "version": "v0.4.0",
        "model_providers": entries,
        "routing_preferences": [
            {
                "name": name,
                "description": "d",
                "models": models,
                **({} if prefer is None else {"selection_policy": {"prefer": prefer}}),
            }
            for name, models, prefer in ROUTES
        ],
        "prices": PRICES,
    }
    file = tmp_path_factory.mktemp("selection") / "gateway.yaml"
    file.write_text(json.dumps(config))
    with serve_api(file, providers, {}, orchestrator=ByWord()) as running:
        yield running


def send(site: Site, text: str, path: str = CHAT, **fields: Any) -> Answered:
    body = {"model": "auto", **question(path, f"{text} {uuid4().hex}"), **fields}
    answer = site.send(json.dumps(body).encode(), path=path)
    assert answer.status == 200, answer.body
    return answer


def order(site: Site, text: str, **fields: Any) -> list[tuple[str, str]]:
    candidates = site.explain(text, **fields)["candidates"]
    return [(one["model"].partition("/")[2], one["why"]) for one in candidates]


def test_cheapest_model_answers(site: Site) -> None:
    """The explanation names each price; a model without one comes last."""
    assert send(site, "price").headers["x-fingerpost-model"] == "inline/cheap"
    text = "cheapest first, {} USD per million tokens of input and output"
    assert order(site, "price") == [
        ("cheap", f"model 2 of route 'price', {text.format(2)}"),
        ("dear", f"model 1 of route 'price', {text.format(18)}"),
        ("unpriced", "model 3 of route 'price', cheapest first, unknown"),
    ]


def test_fastest_model_answers_once_both_are_measured(site: Site) -> None:
    """Five requests measure both models, and then most go to the faster one."""
    answered = [send(site, "speed").headers["x-fingerpost-model"] for _ in range(8)]
    assert answered[:5] == [*["inline/slow"] * 4, "inline/quick"]
    assert answered[5:] == ["inline/quick"] * 3
    names, reasons = zip(*order(site, "speed"), strict=True)
    assert names == ("quick", "slow")
    assert all("fastest first, answer after 0." in reason for reason in reasons)


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_request_goes_to_the_first_model_that_takes_it(site: Site, path: str) -> None:
    """By its length and by its images, in every dialect."""
    assert send(site, "size", path).headers["x-fingerpost-model"] == "inline/small"
    long = send(site, f"size {900 * 'x '}", path)
    assert long.headers["x-fingerpost-model"] == "inline/text-only"
    data = 4000 * "A"
    images: dict[str, dict[str, Any]] = {
        CHAT: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        MESSAGES: {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": data},
        },
        RESPONSES: {"type": "input_image", "image_url": f"data:image/png;base64,{data}"},
    }
    said = {"type": "input_text" if path == RESPONSES else "text", "text": "size"}
    body = {"model": "auto", **question(path, [said, images[path]])}
    for text, model in (("size", "small"), (f"size {900 * 'x '}", "large")):
        said["text"] = text
        answer = site.send(json.dumps(body).encode(), path=path)
        assert answer.headers["x-fingerpost-model"] == f"inline/{model}", answer.body


def test_explanation_says_why_a_model_is_last(site: Site) -> None:
    """With the estimate, and the limit."""
    (first, last) = (order(site, f"size {900 * 'x '}")[place] for place in (0, -1))
    assert first == ("text-only", "model 2 of route 'size'")
    assert last[0] == "small"
    assert last[1].startswith("model 1 of route 'size'; too long: about 4")
    assert last[1].endswith(" tokens, maximum 200")


@pytest.mark.parametrize(
    ("path", "native"),
    [
        (CHAT, {"reasoning_effort": "low"}),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (RESPONSES, {"reasoning": {"effort": "low"}}),
    ],
)
def test_effort_of_the_route_reaches_the_provider(
    site: Site, path: str, native: dict[str, Any]
) -> None:
    """Each candidate is asked for its own effort, in its dialect: here first native, then chat."""
    ledger = site.providers["inline"].ledger
    before = len(ledger.exchanges)
    assert send(site, "effort", path).headers["x-fingerpost-model"] == "chat/parrot"
    asked = [exchange.json for exchange in ledger.exchanges[before:]]
    first, last = asked[0], asked[1]
    keys = ("reasoning_effort", "reasoning", "thinking", "output_config")
    assert {key: first[key] for key in keys if key in first} == native
    assert (last["model"], last["reasoning_effort"]) == ("parrot", "high")


def test_effort_of_the_client_wins(site: Site) -> None:
    """Whatever the route says."""
    send(site, "effort", reasoning_effort="low")
    assert site.exchange("inline").json["reasoning_effort"] == "low"


def test_route_without_effort_leaves_the_body_as_it_is(site: Site) -> None:
    """Only the name of the model differs."""
    body = '{"messages" : [{"role":"user","content":"price \\u00e9"}], "model":"auto","x":1e3}'
    site.send(body.encode())
    assert site.exchange("inline").body == body.replace("auto", "cheap").encode()
