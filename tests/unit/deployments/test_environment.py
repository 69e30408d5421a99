"""The environment that Ray Serve must be started with."""

from pathlib import Path

import pytest

from deployments.environment import (
    GRPC_LIMIT,
    HAPROXY_BINARY,
    HOP_EXEMPT,
    SETTINGS,
    hop_bytes,
    splicing_warnings,
    unmet,
)
from serve_app.cli.serve_yaml.read import read_env_file

SERVE_ENV = Path(__file__).parents[3] / "configs" / "serve.env"
GOOD = {setting.name: setting.value for setting in SETTINGS}


def test_serve_env_file_sets_every_setting() -> None:
    """configs/serve.env sets every required setting to its exact value."""
    settings = read_env_file(SERVE_ENV)
    assert {setting.name: settings.get(setting.name) for setting in SETTINGS} == GOOD
    assert (unmet(settings), hop_bytes(settings)) == ([], 134_217_728 - 524_288)


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"RAY_SERVE_ENABLE_HA_PROXY": "1"}, 1),
        ({"RAY_SERVE_ENABLE_HA_PROXY": "1", HAPROXY_BINARY: ""}, 1),
        ({"RAY_SERVE_ENABLE_HA_PROXY": "1", HAPROXY_BINARY: "/x/fingerpost-haproxy"}, 0),
        ({"RAY_SERVE_ENABLE_HA_PROXY": "0"}, 0),
        ({}, 0),
    ],
)
def test_splicing_is_reported(environ: dict[str, str], count: int) -> None:
    """A warning names the variable where Serve starts its own HAProxy."""
    lines = splicing_warnings(environ)
    assert len(lines) == count
    assert all(line.startswith(HAPROXY_BINARY) for line in lines)


def test_unmet_lists_every_setting_of_empty_environment() -> None:
    """For an empty environment, unmet returns one line per setting, with its value and the
    consequence.
    """
    assert unmet({}) == [
        f"{setting.name}={setting.value} is not set: {setting.otherwise}; start Serve with configs/serve.env"
        for setting in SETTINGS
    ]


@pytest.mark.parametrize("value", ["", "0", "x", "-1", "1.5", "²"])
@pytest.mark.parametrize("name", GOOD)
def test_unmet_names_only_the_wrong_setting(name: str, value: str) -> None:
    """If one setting is missing or invalid, unmet names only that one."""
    lines = unmet(GOOD | {name: value})
    assert [line.partition("=")[0] for line in lines] == ([] if value == GOOD[name] else [name])


@pytest.mark.parametrize(("value", "met"), [("134217728", True), ("134217729", True), ("134217727", False)])  # fmt: skip
def test_limit_is_a_minimum(value: str, met: bool) -> None:
    """A value above a minimum meets it."""
    assert (unmet(GOOD | {GRPC_LIMIT: value}) == []) is met


GRPC = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}, None),
        ({GRPC_LIMIT: "1000000"}, None),
        (GRPC | {"RAY_SERVE_USE_GRPC_BY_DEFAULT": "0"}, None),
        ({"RAY_SERVE_USE_GRPC_BY_DEFAULT": "1"}, 3_670_016),
        (GRPC, 3_670_016),
        (GRPC | {GRPC_LIMIT: "x"}, 3_670_016),
        (GRPC | {GRPC_LIMIT: "²"}, 3_670_016),
        (GRPC | {GRPC_LIMIT: ""}, 3_670_016),
        (GRPC | {GRPC_LIMIT: "8388608"}, 7_864_320),
        (GRPC | {GRPC_LIMIT: "1000"}, 0),
    ],
)
def test_hop_bytes_follow_grpc_limit(environ: dict[str, str], expected: int | None) -> None:
    """The hop's limit is Serve's gRPC limit minus the room for a head; without gRPC there is no
    limit.
    """
    assert hop_bytes(environ) == expected


@pytest.mark.parametrize(
    ("value", "met"),
    [
        ("0.0.0.0/0,::/0", True),
        ("::/0,h,0.0.0.0/0", True),
        ("0.0.0.0/0", False),
        ("*", False),
        ("", False),
    ],
)
def test_list_may_have_other_entries(value: str, *, met: bool) -> None:
    """The list of what is reached without a proxy needs every address, and may have more."""
    assert (unmet(GOOD | {HOP_EXEMPT: value}) == []) is met
