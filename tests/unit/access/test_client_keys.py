"""Client keys with names: what they may use, hashed keys, old keys, and problems of the file."""

import hmac
import time
from pathlib import Path
from statistics import median

import pytest

from serve_app.access.keys import Access, Caller, hashed_key
from serve_app.access_errors import InvalidClientKey, LimitKind
from serve_app.config.locations import ConfigError
from serve_app.config.warnings import config_warnings
from serve_app.snapshot import Snapshot, compile_snapshot
from tests.unit.access.api_rig import ENVIRON, MODELS, SECRET
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock

HASH = f"sha256:{hashed_key(b'fp-hashed', SECRET.encode()).hex()}"
OLD = f"sha256:{hashed_key(b'fp-old', SECRET.encode()).hex()}"


def compiled(folder: Path, more: str) -> Snapshot:
    file = folder / "gateway.yaml"
    file.write_text(V + MODELS + more, "utf-8")
    return compile_snapshot(file, ENVIRON)


def caller(key: bytes) -> Caller:
    return Caller("203.0.113.9", "10.0.0.1", None, (key,))


def test_named_key_is_an_identity(tmp_path: Path) -> None:
    """The holder of a key has its name, team, tenant and rules, and stays the same with a new key."""
    text = "teams: {ml: {limits: {concurrent: 3}}}\nclient_keys: [{key: %s, name: ide, team: ml, budget: {usd: 2.5}}]\n"
    first = compiled(tmp_path, text % "$IDE").access.check(caller(b"fp-ide"))
    second = compiled(tmp_path, text % "$BATCH").access.check(caller(b"fp-batch"))
    assert first == second
    assert (first.name, first.team, first.tenant) == ("ide", "ml", "ide")
    assert [(rule.kind, rule.limit) for rule in first.rules] == [
        (LimitKind.USD, 2_500_000_000),
        (LimitKind.CONCURRENT, 3),
    ]


def test_plain_key_keeps_its_name(tmp_path: Path) -> None:
    """A key without a name is called by its hash, and has sessions of its own."""
    access = compiled(tmp_path, "client_keys: [$IDE, $BATCH]\n").access
    first, second = access.check(caller(b"fp-ide")), access.check(caller(b"fp-batch"))
    assert first.name.startswith("key-")
    assert first.tenant != second.tenant
    assert (first.allowance, first.rules) == (None, ())


def test_hashed_key_admits_its_holder_alone(tmp_path: Path) -> None:
    """The key admits, its stored hash does not."""
    access = compiled(tmp_path, f"client_keys: [{{key: '{HASH}', name: ide}}, '{OLD}']\n").access
    assert access.check(caller(b"fp-hashed")).name == "ide"
    assert access.check(caller(b"fp-old")).name.startswith("key-")
    for key in (HASH, HASH.removeprefix("sha256:"), "fp-other", ""):
        with pytest.raises(InvalidClientKey):
            access.check(caller(key.encode()))
    assert access.knows(b"fp-hashed")
    assert HASH not in repr(access)


def test_hashed_key_needs_the_secret_it_was_made_with(tmp_path: Path) -> None:
    """With another secret, or without one, the key admits no client, and a warning says so."""
    config = compiled(tmp_path, f"client_keys: [{{key: '{HASH}', name: ide}}]\n").config
    for environ in ({"FINGERPOST_KEY_SECRET": "another"}, {}):
        with pytest.raises(InvalidClientKey):
            Access(config, environ).check(caller(b"fp-hashed"))
    (warning,) = config_warnings(config, {})
    assert warning.startswith("key_secret: FINGERPOST_KEY_SECRET is not set; set it, or no client")


def test_secret_may_be_in_a_file(tmp_path: Path) -> None:
    """The secret is read from a file, too, beside the configuration."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    text = f"key_secret: file:secret\nclient_keys: [{{key: '{HASH}', name: ide}}]\n"
    assert compiled(tmp_path, text).access.check(caller(b"fp-hashed")).name == "ide"


def test_previous_key_is_valid_until_its_time(tmp_path: Path) -> None:
    """After a rotation both keys admit the same client, until the old one expires."""
    text = (
        f"client_keys: [{{key: '{HASH}', name: ide, "
        f"previous: {{key: '{OLD}', until: 2026-12-01T00:00:00Z}}}}]\n"
    )
    snapshot = compiled(tmp_path, text)
    until = 1_796_083_200.0
    wall = FakeClock(until - 1)
    access = Access(snapshot.config, ENVIRON, wall_clock=wall)
    assert access.check(caller(b"fp-old")) == access.check(caller(b"fp-hashed"))
    wall.now = until
    assert access.check(caller(b"fp-hashed")).name == "ide"
    with pytest.raises(InvalidClientKey):
        access.check(caller(b"fp-old"))


def test_key_is_found_in_the_same_time(tmp_path: Path) -> None:
    """A wrong key takes as long as a right one, wherever that is and however much of it fits."""
    keys = "".join(
        f"  - {{key: fp-{number:04}-{'x' * 40}, name: k{number}}}\n" for number in range(500)
    )
    access = compiled(tmp_path, f"client_keys:\n{keys}").access
    tried = {
        "first": f"fp-0000-{'x' * 40}",
        "last": f"fp-0499-{'x' * 40}",
        "near": f"fp-0000-{'x' * 39}y",
        "far": f"zz-9999-{'z' * 40}",
    }
    times: dict[str, list[int]] = {name: [] for name in tried}
    for _ in range(400):
        for name, key in tried.items():
            text = key.encode()
            began = time.perf_counter_ns()
            access.knows(text)
            times[name].append(time.perf_counter_ns() - began)
    middle = [median(taken) for taken in times.values()]
    assert max(middle) < 2 * min(middle), times
    assert max(middle) < 100_000  # 500 comparisons one after the other would take longer


def test_comparison_is_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides about a hashed key is the library's constant-time comparison."""
    access = compiled(tmp_path, f"client_keys: [{{key: '{HASH}', name: ide}}]\n").access
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    assert not access.knows(b"fp-hashed")


PROBLEMS = {
    "duplicate": (
        "client_keys: [{key: $IDE, name: a}, {key: $BATCH, name: a}]",
        "client_keys[1].name: duplicate name 'a'; rename one",
    ),
    "team": (
        "teams: {ml: {}}\nclient_keys: [{key: $IDE, name: a, team: mll}]",
        "client_keys[0].team: no entry of teams is named 'mll'; did you mean 'ml'?",
    ),
    "no team": (
        "client_keys: [{key: $IDE, name: a, team: ml}]",
        "client_keys[0].team: no entry of teams is named 'ml'; add `ml: {}` to teams",
    ),
    "allow": (
        "client_keys: [{key: $IDE, name: a, allow: [openai/gpt-4o, openai/gpt-4oo]}]",
        "client_keys[0].allow[1]: 'openai/gpt-4oo' is neither a model, an alias nor a route; did you mean 'openai/gpt-4o'?",
    ),
    "allow provider": (
        "client_keys: [{key: $IDE, name: a, allow: [groq/*]}]",
        "client_keys[0].allow[0]: no entry of model_providers is of the provider 'groq'; correct it",
    ),
    "name": (
        "client_keys: [{key: $IDE, name: 'a:b'}]",
        "client_keys[0].name: must have at most 64 letters, digits, dots, hyphens, underscores and @, and begin with a letter or a digit",
    ),
    "hash": (
        "client_keys: [{key: 'sha256:abc', name: a}]",
        "client_keys[0].key: must have 64 lower-case hex digits after sha256:; make one with `fingerpost keys new`",
    ),
    "until": (
        "client_keys: [{key: $IDE, name: a, previous: {key: $BATCH, until: soon}}]",
        "client_keys[0].previous.until: must be a time such as 2026-12-01T00:00:00Z",
    ),
    "limits": (
        "client_keys: [{key: $IDE, name: a, limits: {requests_per_minute: 0}}]",
        "client_keys[0].limits.requests_per_minute: must be at least 1",
    ),
    "unknown": (
        "client_keys: [{key: $IDE, name: a, limit: {}}]",
        "client_keys[0].limit: unknown key; did you mean 'limits'?",
    ),
    "budget": (
        "client_keys: [{key: $IDE, name: a, budget: {usd: 0, window: year}}]",
        "client_keys[0].budget.window: must be 'day', 'week' or 'month', not a string",
    ),
    "model_limits": (
        "model_limits: {openai/gpt-5o: {concurrent: 1}}",
        "model_limits.openai/gpt-5o: no entry of model_providers is named 'openai/gpt-5o'; did you mean 'openai/gpt-4o'?",
    ),
    "model_limits provider": (
        "model_limits: {groq/*: {concurrent: 1}}",
        "model_limits.groq/*: no entry of model_providers is of the provider 'groq'; correct it",
    ),
    "redis": (
        "limit_storage: {type: redis}\nmodel_limits: {openai/gpt-4o: {concurrent: 1}}",
        "limit_storage: type redis needs `url: redis://host:6379`, or routing.session_cache.url",
    ),
    "baseline": (
        "savings: {baseline: nothing}",
        "savings.baseline: 'nothing' must be written provider/name; correct it",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_names_line_and_fix(name: str, tmp_path: Path) -> None:
    """Each problem of keys, teams and limits has its line, its path and a way out."""
    text, expected = PROBLEMS[name]
    with pytest.raises(ConfigError) as caught:
        compiled(tmp_path, text + "\n")
    shown = [str(problem) for problem in caught.value.problems]
    assert any(line.startswith("line ") and line.endswith(expected) for line in shown), shown


def test_problems_show_no_key(tmp_path: Path) -> None:
    """A file with problems shows neither plain keys nor hashes."""
    text = f"client_keys: [{{key: [sk-plain], name: 1, previous: '{HASH}'}}, {{key: sk-plain, nam: sk-plain}}]\n"
    with pytest.raises(ConfigError) as caught:
        compiled(tmp_path, text)
    assert "sk-plain" not in str(caught.value)
    assert HASH not in str(caught.value)
