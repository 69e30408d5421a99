"""Internal errors and lookups of models, against the API alone."""

import logging
from pathlib import Path
from typing import Any

import pytest

from serve_app.providers.transport import Transport
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, write_config
from tests.wire.conftest import FakeMeter, serve_api

ENVIRON = {"FINGERPOST_TEST_KEY": SECRET}


def test_unexpected_exception_is_internal_error(
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unexpected exception becomes an internal error without its text, and the log contains all
    of it.
    """

    async def broken(*_: Any) -> None:
        message = "a secret of the inside"
        raise LookupError(message)

    meter = FakeMeter()
    with serve_api(write_config(tmp_path, providers), providers, ENVIRON, meter) as site:
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "fingerpost"):
            patch.setattr(Transport, "open", broken)
            answer = site.ask("inline/parrot")
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert b"secret" not in answer.body
        assert "a secret of the inside" in caplog.text
        assert site.ask("inline/parrot").status == 200
    assert any(labels == ("chat", "500", "") for _, labels in meter.counts)


def test_model_lookup_follows_client_dialect(
    tmp_path: Path, providers: dict[str, ScriptedProvider]
) -> None:
    """A model lookup and its 404 have the Anthropic shape for an Anthropic client."""
    headers = {"anthropic-version": "2023-06-01"}
    with serve_api(write_config(tmp_path, providers), providers, ENVIRON) as site:
        one = site.send(method="GET", path="/v1/models/fast", headers=headers)
        assert one.json["type"] == "model"
        none = site.send(method="GET", path="/v1/models/no/pe", headers=headers)
        assert none.json["error"]["type"] == "not_found_error"
        assert site.send(method="GET", path="/v1/models/no/pe").error["code"] == "model_not_found"
        assert site.send(method="GET", path="/").json["name"] == "fingerpost"
