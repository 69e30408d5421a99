"""The limits of an exchange: those of its entry, else the general ones."""

from typing import Any

import pytest

from serve_app.config.schema.timeouts import ProviderTimeouts, Timeouts
from serve_app.providers.limits import limits_of


@pytest.mark.parametrize(
    ("own", "general", "expected"),
    [
        ({}, {}, (5.0, 60.0, 120.0, 120.0)),
        ({}, {"first_byte_s": 10.0}, (5.0, 10.0, 120.0, 120.0)),
        ({}, {"first_byte_s": 100.0}, (5.0, 100.0, 200.0, 120.0)),
        ({}, {"first_token_s": 7.0}, (5.0, 60.0, 7.0, 120.0)),
        ({"first_byte_s": 90.0}, {}, (5.0, 90.0, 180.0, 120.0)),
        ({"first_token_s": 8.0}, {"first_token_s": 7.0}, (5.0, 60.0, 8.0, 120.0)),
        ({"connect_s": 1.0, "idle_s": 3.0, "first_byte_s": 1.0}, {}, (1.0, 1.0, 3.0, 3.0)),
    ],
)
def test_limits_of_an_entry_count_first(
    own: dict[str, Any], general: dict[str, Any], expected: tuple[float, ...]
) -> None:
    """Each limit is the entry's or the general one; the first token has twice the first byte's."""
    assert limits_of(ProviderTimeouts(**own), Timeouts(**general)) == expected
