"""Until when a quota is spent, as the headers of providers say it."""

import pytest

from serve_app.requests.quota_headers import spent_until

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "left_s"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s"}, 1.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1d2h"}, 93600.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "33"}, 33.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.5"}, 7.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": ""}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "9s"}, 9.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 60:.0f}"}, 60.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{(NOW + 60) * 1e3:.0f}"}, 60.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW - 60:.0f}"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
            },
            30.0,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2027-01-15T09:01:00+01:00",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2027-01-15T08:00:10Z",
            },
            60.0,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:30",
            },
            None,
        ),
        ({"anthropic-ratelimit-unified-status": "0"}, None),
    ],
)
def test_spent_until_reads_headers_of_providers(
    headers: dict[str, str], left_s: float | None
) -> None:
    """Durations, seconds, times of the epoch and of RFC 3339; the last end of a used-up quota."""
    until = spent_until(tuple(headers.items()), NOW)
    assert until == (None if left_s is None else pytest.approx(NOW + left_s, abs=1e-6))
