"""What Ray Serve has to be started with."""

from pathlib import Path

import pytest

from deployments.environment import GRPC_LIMIT, SETTINGS, hop_bytes, unmet
from serve_app.cli.serve_yaml.read import read_env_file

SERVE_ENV = Path(__file__).parents[3] / "configs" / "serve.env"
GOOD = {setting.name: setting.value for setting in SETTINGS}


def test_serve_env_sets_all_of_it() -> None:
    """The one file that everything takes holds each setting, at exactly this value."""
    said = read_env_file(SERVE_ENV)
    assert {setting.name: said.get(setting.name) for setting in SETTINGS} == GOOD
    assert (unmet(said), hop_bytes(said)) == ([], 134_217_728 - 524_288)


def test_an_empty_environment_meets_nothing() -> None:
    """One line for each setting, with its value and what happens otherwise."""
    assert unmet({}) == [
        f"{setting.name}={setting.value} is not set: {setting.otherwise}; start Serve with configs/serve.env"
        for setting in SETTINGS
    ]


@pytest.mark.parametrize("value", ["", "0", "x", "-1", "1.5", "²"])
@pytest.mark.parametrize("name", GOOD)
def test_each_setting_counts_alone(name: str, value: str) -> None:
    """Without one of them only that one is named; garbage counts as nothing."""
    said = unmet(GOOD | {name: value})
    assert [line.partition("=")[0] for line in said] == ([] if value == GOOD[name] else [name])


@pytest.mark.parametrize(("value", "met"), [("134217728", True), ("134217729", True), ("134217727", False)])  # fmt: skip
def test_a_limit_may_be_higher(value: str, met: bool) -> None:
    """What is a minimum holds above it."""
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
def test_a_hop_carries_what_grpc_lets_it(environ: dict[str, str], expected: int | None) -> None:
    """Serve's limit less the room for a head; no limit where hops do not use gRPC."""
    assert hop_bytes(environ) == expected
