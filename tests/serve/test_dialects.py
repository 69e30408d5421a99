"""Every pair of dialects through the whole graph: HAProxy, ingress, hop, provider clients."""

import json
from itertools import product
from typing import Any, Final

import anthropic
import pytest

from tests.matrix.cases import DIALECTS, TOLD, Case, Cell
from tests.matrix.conftest import CLIENTS, NAMES, Bench
from tests.matrix.test_breaks import test_client_leaves, test_provider_breaks_off
from tests.matrix.test_cells import test_answer as check_answer
from tests.matrix.test_surfaces import (
    test_completions,
    test_count_of_tokens,
    test_count_of_tokens_elsewhere,
    test_embeddings,
    test_fall_back_to_another_dialect,
)
from tests.scripted_provider import ScriptedProvider
from tests.serve.conftest import GATEWAY_KEY
from tests.site import MESSAGES, Site

__all__ = [  # the tests of the matrix that run here
    "test_client_leaves",
    "test_completions",
    "test_count_of_tokens",
    "test_count_of_tokens_elsewhere",
    "test_embeddings",
    "test_fall_back_to_another_dialect",
    "test_provider_breaks_off",
]

_CELLS: Final = [
    Cell(case, *pair, stream=stream)
    for case in (Case.TEXT, Case.ONE_TOOL)
    for pair in product(DIALECTS, DIALECTS)
    for stream in (False, True)
]


@pytest.mark.parametrize("cell", _CELLS, ids=str)
def test_answer(bench: Bench, cell: Cell) -> None:
    """Question and answer arrive whole, by the official SDKs."""
    check_answer(bench, cell)


_THEIRS: Final = f"theirs/{NAMES['messages']}:{Case.TEXT}"
_SIGN_IN: Final = "sk-ant-oat01-of-a-subscription"


def test_key_of_gateway_beside_own_key(routing_site: Site, vendor: ScriptedProvider) -> None:
    """Claude Code's set-up: one key admits the client, and its own sign-in goes to the provider."""
    with anthropic.Anthropic(
        base_url=routing_site.url,
        auth_token=_SIGN_IN,
        default_headers={"x-fingerpost-key": GATEWAY_KEY},
        max_retries=0,
    ) as sdk:
        asked: dict[str, Any] = CLIENTS["messages"].request(Case.TEXT)
        answer: Any = sdk.messages.create(model=_THEIRS, **asked)
    assert answer.content[0].text == TOLD[Case.TEXT].text
    sent = vendor.ledger.last().headers
    assert sent["authorization"] == f"Bearer {_SIGN_IN}"
    assert GATEWAY_KEY not in json.dumps(sent)


def test_request_without_key_of_gateway(routing_site: Site, vendor: ScriptedProvider) -> None:
    """It is refused before any provider is asked, in the client's dialect."""
    before = len(vendor.ledger.exchanges)
    headers = {"x-fingerpost-key": "wrong", "authorization": f"Bearer {_SIGN_IN}"}
    body = json.dumps({"model": _THEIRS, **CLIENTS["messages"].request(Case.TEXT)}).encode()
    answer = routing_site.send(body, path=MESSAGES, headers=headers)
    assert answer.status == 401
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == "authentication_error"
    assert len(vendor.ledger.exchanges) == before
