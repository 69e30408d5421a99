"""Values that look like references or keys and are neither: each is a problem with its line."""

from pathlib import Path

import pytest

from serve_app.config.locations import ConfigError
from serve_app.config.placeholders import key_fault, url_fault_of_example
from serve_app.config.references import reference_fault
from tests.unit.config_texts import VERSION as V
from tests.unit.fakes import snapshot_of

OTHER = "contains a reference that is not ${NAME}"
LITELLM = "in the form of LiteLLM"
EXAMPLE = "is a placeholder of an example"
PROVIDER = V + "model_providers:\n  - model: vllm/a\n    base_url: http://h:1\n"
KEYS = {
    "client_keys": V + "client_keys:\n  - $GOOD\n  - '%s'\n",
    "access_key": PROVIDER + "    access_key: '%s'\n",
    "headers": PROVIDER + "    headers:\n      x-key: '%s'\n",
    "traces": V + "telemetry:\n  traces:\n    headers:\n      x-key: '%s'\n",
    "orchestrator": V
    + "orchestrator:\n  engine: http\n  model: m\n  base_url: http://h\n  access_key: '%s'\n",
    "when_unsure": V
    + "orchestrator:\n  when_unsure:\n    engine: http\n    model: m\n    base_url: http://h\n"
    "    access_key: '%s'\n",
}
"""Every place of a key; the value is on the last line."""
ADDRESSES = {
    "base_url": V + "model_providers:\n  - model: vllm/a\n    base_url: '%s'\n",
    "proxy": PROVIDER + "    proxy: '%s'\n",
    "orchestrator": V + "orchestrator:\n  engine: http\n  model: m\n  base_url: '%s'\n",
    "metrics": V + "telemetry:\n  metrics:\n    endpoint: '%s'\n",
    "session_cache": V + "routing:\n  session_cache:\n    type: redis\n    url: '%s'\n",
    "state_storage": V + "state_storage:\n  type: redis\n  url: '%s'\n",
}
"""Every place of an address; the value is on the last line."""


def problems_of(folder: Path, text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigError) as caught:
        snapshot_of(folder, text)
    return [(problem.line, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("place", KEYS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${TEAM_KEY:-changeme}", f"{OTHER}; write ${{TEAM_KEY}}, and set TEAM_KEY"),
        ("${TEAM_KEY-changeme}", f"{OTHER}; write ${{TEAM_KEY}}"),
        ("${TEAM_KEY:?changeme}", OTHER),
        ("Bearer ${TEAM_KEY+changeme}", OTHER),
        ("${TEAM_KEY", f"{OTHER}; write ${{TEAM_KEY}}"),
        ("${}", f"{OTHER}; write ${{NAME}}"),
        ("${ TEAM_KEY }", OTHER),
        ("$GOOD-${TEAM_KEY:-changeme}", OTHER),
        ("os.environ/TEAM_KEY", f"{LITELLM}; write $TEAM_KEY"),
        ("Bearer os.environ/TEAM_KEY", LITELLM),
        ("<your-key>", EXAMPLE),
        ("Bearer <token>", EXAMPLE),
        ("YOUR_API_KEY", EXAMPLE),
        ("sk-your-key-here", EXAMPLE),
        ("{{ secrets.KEY }}", EXAMPLE),
    ],
)
def test_literal_that_is_no_key_is_a_problem(
    place: str, value: str, message: str, tmp_path: Path
) -> None:
    """It would be a key as it is written; the message has the line, and no default of a key."""
    text = KEYS[place] % value
    ((line, said),) = problems_of(tmp_path, text)
    assert line == text.count("\n")
    assert message in said
    assert "changeme" not in said


@pytest.mark.parametrize("place", ADDRESSES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${HOST_URL:-http://changeme}", OTHER),
        ("http://${HOST_NAME:-changeme}:1", OTHER),
        ("http://<your-server-ip>:10000", "contains the placeholder '<your-server-ip>'"),
        ("http://host:<port>", "contains the placeholder '<port>'"),
        ("http://{host}:1/v1", "contains the placeholder '{host}'"),
        ("http://$HOST_NAME/<deployment>", "contains the placeholder '<deployment>'"),
        ("https://your-resource.openai.azure.com", "contains the placeholder 'your-resource"),
        ("http://YOUR_SERVER:1", "contains the placeholder 'YOUR_SERVER'"),
        ("http://:<password>@host:1", "contains a placeholder before '@'"),
    ],
)
def test_literal_that_is_no_address_is_a_problem(
    place: str, value: str, message: str, tmp_path: Path
) -> None:
    """Each is found by `check`, not by the first request; the message says what to write."""
    text = ADDRESSES[place] % value
    ((line, said),) = problems_of(tmp_path, text)
    assert line == text.count("\n")
    assert message in said
    assert "changeme" not in said


@pytest.mark.parametrize(
    "text",
    ["$A", "${A}", "x-$A-${B_2}", "a$", "$-A", "$$A", "file:${A", "sk-os.environ", "", "$ {A"],
)
def test_reference_fault_leaves_other_texts_alone(text: str) -> None:
    """References that are expanded, and a dollar sign in a literal."""
    assert reference_fault(text) is None


@pytest.mark.parametrize(
    "key", ["sk-1", "$A", "yours", "a<b>c", "Bearer sk-1", "my-your-key", "{x}", "file:<x>"]
)
def test_real_keys_are_no_placeholders(key: str) -> None:
    """Only a whole value is a placeholder."""
    assert key_fault(key) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1/v1",
        "https://static.1.clients.your-server.de/v1",
        "http://${HOST}:1",
        "redis://:a<b>c@h:1",
        "redis://u:p{1}@h",
        "http://[::1]:8000",
        "unix:///run/redis.sock",
        "https://api.example.com/v1",
    ],
)
def test_real_addresses_are_no_placeholders(url: str) -> None:
    """A password may contain anything, and a real host may contain the words of an example."""
    assert url_fault_of_example(url) is None
