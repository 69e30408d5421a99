"""Keys from the environment on their way into a header."""

from pathlib import Path

import pytest

from serve_app.exchange import PATHS, FaultKind, Operation
from serve_app.providers.outgoing import NoTargetError, Target, target_of
from tests.unit.config_texts import VERSION as V
from tests.unit.fakes import snapshot_of


def target(folder: Path, key: str, more: str = "") -> Target:
    """The target of an entry whose key is in the variable KEY."""
    text = f"{V}model_providers: [{{model: openai/a, access_key: $KEY{more}}}]\n"
    (endpoint,) = snapshot_of(folder, text).providers.endpoints()
    return target_of(endpoint, Operation.CHAT, PATHS[Operation.CHAT], {"KEY": key}, 0.0)


@pytest.mark.parametrize("key", ["sk-012345", "sk-012345\n", "  sk-012345\r\n", "\tsk-012345 "])
def test_white_space_around_key_is_not_sent(key: str, tmp_path: Path) -> None:
    """It was a 503 for every request; the key is masked in answers as it is sent."""
    made = target(tmp_path, key, ", headers: {x-other: 'Token ${KEY}!'}")
    assert dict(made.headers) == {
        "authorization": "Bearer sk-012345",
        "x-other": "Token sk-012345!",
    }
    assert b"sk-012345" in made.secrets


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("sk-0\r\nx-b: w", "a line break or another control character"),
        ("sk-0\x00", "a line break or another control character"),
        (b"sk-\xff".decode(errors="surrogateescape"), "bytes that are not UTF-8"),
    ],
)
def test_key_that_is_no_text_is_a_fault(key: str, fault: str, tmp_path: Path) -> None:
    """Nothing is sent, and the fault names the key of the file, not the value."""
    with pytest.raises(NoTargetError) as caught:
        target(tmp_path, key)
    assert caught.value.fault.kind is FaultKind.NO_KEY
    assert caught.value.fault.detail == f"access_key of openai contains {fault}"


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_blank_key_counts_as_unset(key: str, tmp_path: Path) -> None:
    """The fault names the variable."""
    with pytest.raises(NoTargetError) as caught:
        target(tmp_path, key)
    assert "the environment variable KEY is not set" in caught.value.fault.detail
