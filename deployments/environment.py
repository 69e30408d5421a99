"""The environment that Ray Serve needs, and what happens without it.

configs/serve.env sets all of it but one path; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GRPC_LIMIT: Final = "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"
HOP_EXEMPT: Final = "no_grpc_proxy"
"""gRPC asks no proxy for these, which are all addresses; it reads this before ``no_proxy``."""
HEADER_CALLBACK: Final = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""What Serve calls in each process that listens; see header_text.py."""
HAPROXY_BINARY: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""Not in configs/serve.env, because the path differs from machine to machine."""
_GRPC_DEFAULT: Final = 4 << 20
_HEAD_BYTES: Final = 512 << 10
"""Room for a hop's head beside its body."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable, the value that it needs, and what happens otherwise."""

    name: str
    value: str
    otherwise: str
    at_least: bool = False
    is_list: bool = False
    """The entries of the value are needed, among others."""


SETTINGS: Final = (
    Setting("RAY_SERVE_ENABLE_HA_PROXY", "1", "every request is about ten times slower"),
    Setting("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1", "hops cost more than twice the time"),
    Setting("RAY_SERVE_LOG_TO_STDERR", "1", "errors show in Serve's log files only"),
    Setting(GRPC_LIMIT, "134217728", "bodies over 3.5 MiB are refused", at_least=True),
    Setting(
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE",
        "262144",
        "requests with more than 15 KB of headers are refused with an HTML page",
        at_least=True,
    ),
    Setting(
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S",
        "900",
        "every stream is cut 120 s after the ingress scales",
        at_least=True,
    ),
    Setting(
        "RAY_SERVE_HAPROXY_METRICS_ENABLED",
        "0",
        "HAProxy logs each request to a Python process that only counts what replicas count too",
    ),
    Setting(
        HEADER_CALLBACK,
        "deployments.header_text:middlewares",
        "a request with a Latin-1 header, such as x-session-id, gets a 500 in plain text",
    ),
    Setting(
        HOP_EXEMPT,
        "0.0.0.0/0,::/0",
        "where http_proxy is set, requests between replicas go to that proxy and time out",
        is_list=True,
    ),
)


def unmet(environ: Mapping[str, str]) -> list[str]:
    """One warning for each setting that is missing or too small."""
    return [
        f"{setting.name}={setting.value} is not set: {setting.otherwise}; start Serve with configs/serve.env"
        for setting in SETTINGS
        if not _holds(setting, environ.get(setting.name, ""))
    ]


def splicing_warnings(environ: Mapping[str, str]) -> list[str]:
    """A warning if HAProxy splices bodies, as it does where Serve starts its own program."""
    if environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1" or environ.get(HAPROXY_BINARY):
        return []
    fix = "start Serve with the path of fingerpost-haproxy in it"
    effect = "HAProxy may not report that a client has left, and its provider goes on to answer"
    return [f"{HAPROXY_BINARY} is not set: {effect}; {fix}"]


def hop_bytes(environ: Mapping[str, str]) -> int | None:
    """The largest body that a hop carries, in bytes; None without a limit.

    Only gRPC has a limit, and Serve's hops use it when throughput is optimized.
    """
    switches = ("RAY_SERVE_USE_GRPC_BY_DEFAULT", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
    values = [environ[name] for name in switches if name in environ]
    if not values or values[0] != "1":
        return None
    raised = environ.get(GRPC_LIMIT, "")
    return max(0, (int(raised) if raised.isdecimal() else _GRPC_DEFAULT) - _HEAD_BYTES)


def _holds(setting: Setting, value: str) -> bool:
    if setting.at_least:
        return value.isdecimal() and int(value) >= int(setting.value)
    if setting.is_list:
        return set(setting.value.split(",")) <= set(value.split(","))
    return value == setting.value
