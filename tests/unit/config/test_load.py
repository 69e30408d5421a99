"""How a configuration file is read: problems with their lines, references, versions."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serve_app.config.load import load, raise_problems
from serve_app.config.locations import ConfigError, Problem, path_text
from serve_app.config.pydantic_errors import did_you_mean
from serve_app.config.references import MissingEnvironmentError, expand, references
from serve_app.domain import DataPath, Prefer
from serve_app.snapshot import compile_snapshot
from tests.unit.config.broken import BROKEN, Found
from tests.unit.config.broken_sections import SECTIONS
from tests.unit.config_texts import ONE_MODEL, VERSION
from tests.unit.fakes import snapshot_of

SECRET = "sk-secret"
ALL = BROKEN | SECTIONS


def problems_of(directory: Path, content: str | bytes) -> tuple[Problem, ...]:
    file = directory / "gateway.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        compile_snapshot(file)
    assert caught.value.file == str(file)
    assert str(caught.value).startswith(f"{file} has {len(caught.value.problems)} problem")
    return caught.value.problems


@pytest.mark.parametrize(("text", "result"), ALL.values(), ids=ALL)
def test_broken_file_is_reported(text: str, result: Found, tmp_path: Path) -> None:
    """All problems are reported together, each with its line, its path and its fix."""
    actual = [(p.line, p.path, p.message) for p in problems_of(tmp_path, text)]
    assert actual == result


def test_lines_are_counted_through_the_file(tmp_path: Path) -> None:
    """Comments, blank lines and block scalars do not shift a line."""
    text = f"# first\n\n{VERSION}\n# more\nmodel_providers:\n\n  - model: |-\n      openai/a\n\n    # here\n    nonsense: 1\n"
    (problem,) = problems_of(tmp_path, text)
    assert (problem.line, problem.path) == (12, "model_providers[0].nonsense")


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"\xff\xfe\xff", 1, "invalid YAML"),
        (b"version: \xc3(\n", 1, "invalid YAML"),
        (b"version: v0.4.0\n# caf\xe9\n", 2, "save it as plain text in UTF-8"),
        (b"version: v0.4.0\na: \x00\n", 2, "save it as plain text in UTF-8"),
        (b"a: " + b"[" * 5000, 0, "invalid YAML"),
        (b"version: v0.4.0\n---\nversion: v0.4.0\n", 2, "another document"),
        (b"a: *b\n", 1, "invalid YAML"),
        (b"a: !b c\n", 1, "invalid YAML"),
        (b"---\n", 1, "must be a mapping of keys"),
        (b"version: v0.4.0\nlisteners: !!timestamp x\n", 2, "invalid YAML"),
        (b"version: v0.4.0\nlisteners: !!bool x\n", 2, "invalid YAML"),
        (b"version: v0.4.0\nlisteners: !!int x\n", 2, "invalid YAML"),
        (b"version: v0.4.0\nlisteners: 2020-13-45\n", 2, "invalid YAML"),
    ],
)
def test_file_that_is_not_a_configuration_is_reported(
    content: bytes, line: int, text: str, tmp_path: Path
) -> None:
    """Bytes that are not YAML, or YAML that is not a mapping, are one problem with its line."""
    (problem,) = problems_of(tmp_path, content)
    assert text in problem.message
    assert problem.line == line


@pytest.mark.parametrize(
    "text",
    [
        VERSION + "x0: &x0 [a, b]\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        VERSION + "a: &a [*a]\n",
        VERSION + "a: &a {b: {c: *a}}\n",
        VERSION + "a: " + "[" * 60 + "]" * 60,
    ],
    ids=["laughs", "recursive list", "recursive map", "deep"],
)  # fmt: skip
def test_expanding_anchors_are_refused(text: str, tmp_path: Path) -> None:
    """Neither a billion laughs nor an anchor inside itself uses up the memory."""
    (problem,) = problems_of(tmp_path, text)
    assert "nested too deeply, or anchors expand to too many values" in problem.message
    assert problem.line > 1


def test_expanding_merges_are_refused(tmp_path: Path) -> None:
    """Merge keys expand like anchors, and have the same limit."""
    levels = [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 10)}]}}\n" for n in range(1, 7)]
    problems = problems_of(tmp_path, VERSION + "x0: &x0 {a: 1}\n" + "".join(levels))
    assert any("anchors expand to too many values" in problem.message for problem in problems)


def test_merge_may_be_overridden(tmp_path: Path) -> None:
    """An own key beside a merge takes precedence and is not a duplicate."""
    snapshot = snapshot_of(
        tmp_path,
        VERSION + "model_providers:\n  - &first\n    model: openai/a\n    access_key: $KEY\n"
        "  - <<: *first\n    model: openai/b\n",
    )
    assert [(p.model, p.access_key) for p in snapshot.config.model_providers] == [
        ("openai/a", "$KEY"),
        ("openai/b", "$KEY"),
    ]


def test_plain_anchor_is_accepted(tmp_path: Path) -> None:
    """An anchor writes a value once."""
    snapshot = snapshot_of(
        tmp_path,
        VERSION + "model_providers:\n  - model: openai/a\n    access_key: &k $KEY\n"
        "  - model: openai/b\n    access_key: *k\n",
    )
    assert {entry.access_key for entry in snapshot.config.model_providers} == {"$KEY"}


@pytest.mark.parametrize(
    "text",
    [
        "model_providers: {model: openai/a, access_key: sk-secret}\n",
        "model_providers:\n  - [access_key, sk-secret]\n",
        "model_providers:\n  - model: openai/a\n    access_key: [sk-secret]\n",
        "model_providers:\n  - model: openai/a\n    access_key: {sk-secret: 1}\n",
        "model_providers:\n  - model: openai/a\n    acces_key: sk-secret\n",
        "model_providers:\n  - model: {access_key: sk-secret}\n",
        "client_keys: sk-secret\n",
        "client_keys: {sk-secret: 1}\n",
        "client_keys: [[sk-secret]]\n",
        "limits: {access_key: sk-secret}\n",
        "timeouts: [{client_keys: sk-secret}]\n",
        "model_providers:\n  - model: vllm/a\n    base_url: http://u:sk-secret@host\n",
        "model_providers:\n  - model: vllm/a\n    base_url: u:sk-secret@host\n",
        "model_providers:\n  - model: vllm/a\n    base_url: ftp://u:sk-secret@host\n",
        "model_providers:\n  - model: vllm/a\n    base_url: http://host/v1?key=sk-secret\n",
    ],
)
def test_keys_are_not_shown_in_messages(text: str, tmp_path: Path) -> None:
    """No message repeats a key, wherever it is misplaced."""
    for problem in problems_of(tmp_path, VERSION + text):
        assert SECRET not in str(problem)


def test_keys_are_not_shown_in_the_repr(tmp_path: Path) -> None:
    """The repr of a loaded configuration contains no key."""
    snapshot = snapshot_of(
        tmp_path,
        f"{VERSION}client_keys: [{SECRET}]\nmodel_providers:\n  - model: openai/a\n    access_key: {SECRET}\n",
    )
    assert SECRET not in repr(snapshot)


@pytest.mark.parametrize("value", [".inf", ".nan", "-1", "0"])
def test_timeouts_must_be_finite(value: str, tmp_path: Path) -> None:
    """Every wait has an end."""
    (problem,) = problems_of(tmp_path, f"{VERSION}timeouts:\n  total_s: {value}\n")
    assert (problem.line, problem.path) == (3, "timeouts.total_s")


def test_wildcard_is_not_a_target(tmp_path: Path) -> None:
    """An alias and a route name models, and `provider/*` is not one."""
    problems = problems_of(
        tmp_path,
        VERSION
        + "model_providers:\n  - model: openai/*\nmodel_aliases:\n  fast:\n    target: openai/*\n"
        "routing_preferences:\n  - name: code\n    description: d\n    models: [openai/*]\n",
    )
    assert [problem.path for problem in problems] == [
        "model_aliases.fast.target",
        "routing_preferences[0].models[0]",
    ]


def test_ambiguous_target_is_refused(tmp_path: Path) -> None:
    """The message has the full names of the models that share a bare name."""
    (problem,) = problems_of(
        tmp_path,
        VERSION
        + "model_providers:\n  - model: openai/gpt\n  - model: vllm/gpt\n    base_url: http://h\n"
        "model_aliases:\n  fast:\n    target: gpt\n",
    )
    assert "openai/gpt" in problem.message
    assert "vllm/gpt" in problem.message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """The message has the reason of the system, and the way out; a folder is refused as well."""
    missing = "No such file or directory; check its path"
    folder = "Is a directory; name a file in it"
    for file, reason in ((tmp_path / "no.yaml", missing), (tmp_path, folder)):
        with pytest.raises(ConfigError) as caught:
            compile_snapshot(file)
        (problem,) = caught.value.problems
        assert f"cannot read the file: {reason}" in str(problem)


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    """A file above 4 MiB is not parsed."""
    (problem,) = problems_of(tmp_path, VERSION + "#" * (4 << 20))
    assert "file is larger than 4194304 bytes" in problem.message


def test_version_depends_on_the_bytes(tmp_path: Path) -> None:
    """Any change, even of a comment, gives another version."""
    versions = [
        snapshot_of(tmp_path, text).policy.version
        for text in (ONE_MODEL, ONE_MODEL + "# x\n", ONE_MODEL)
    ]
    assert versions[0] == versions[2] != versions[1]
    assert versions[0] == hashlib.sha256(ONE_MODEL.encode()).hexdigest()[:12]


@pytest.mark.parametrize("version", ["v0.1", "v0.1.0", "0.1-beta", "0.2.0", "v0.3.0", "v0.4.0"])
def test_every_version_of_plano_is_accepted(version: str, tmp_path: Path) -> None:
    """Older versions are read as the newest one."""
    assert snapshot_of(tmp_path, f"version: {version}\n").config.version == "v0.4.0"


def test_whole_file_is_read(tmp_path: Path) -> None:
    """Every key of the schema is present in the result."""
    config = snapshot_of(
        tmp_path,
        VERSION
        + "listeners:\n  - {type: model, name: x, port: 12000, address: 0.0.0.0, timeout: 30s}\n"
        "model_providers:\n  - {model: openai/a, name: main, access_key: $K, default: true, data_path: inline}\n"
        "model_aliases: {fast: {target: a}}\n"
        "routing_preferences:\n  - {name: r, description: d, models: [a], selection_policy: {prefer: fastest}}\n"
        "client_keys: [$C]\nallow_anonymous: true\nlimits: {body_bytes: 10, header_bytes: 2048}\n"
        "timeouts: {connect_s: 1, first_byte_s: 2.5, idle_s: 3, total_s: 4}\n",
    ).config
    assert config.model_providers[0].data_path is DataPath.INLINE
    assert config.routing_preferences[0].selection_policy is not None
    assert config.routing_preferences[0].selection_policy.prefer is Prefer.FASTEST
    assert (config.client_keys, config.allow_anonymous) == (["$C"], True)
    assert (config.limits.body_bytes, config.timeouts.first_byte_s) == (10, 2.5)


def test_problems_of_the_caller_are_added(tmp_path: Path) -> None:
    """All problems are in the order of lines, each once."""
    file = tmp_path / "gateway.yaml"
    file.write_text(VERSION + "zzz: 1\nmodel_aliases:\n  fast: 1\n")
    loaded = load(file)
    assert {problem.line for problem in loaded.problems} == {2, 4}
    extra = Problem(3, "model_aliases", "x")
    with pytest.raises(ConfigError) as caught:
        raise_problems(loaded, [extra, extra])
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]


ENVIRON = {"A": "1", "B_2": "two", "EMPTY": "", "NESTED": "$A"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}", "1"),
        ("x-$A-${B_2}y", "x-1-twoy"),
        ("$A$A", "11"),
        ("http://${B_2}:$A/v1", "http://two:1/v1"),
        ("$NESTED", "$A"),
        ("$", "$"),
        ("a$-b", "a$-b"),
        ("${A", "${A"),
        ("$ {A}", "$ {A}"),
    ],
)
def test_references_are_expanded_once(text: str, expected: str) -> None:
    """Both forms are replaced; references inside values are not."""
    assert expand(text, ENVIRON) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$NO", "variable NO is"),
        ("${EMPTY}", "variable EMPTY is"),
        ("$NO-$A-$ALSO_NO", "variables NO and ALSO_NO are"),
        ("$NO$NO", "variable NO is"),
    ],
)
def test_unset_references_are_all_named(text: str, names: str) -> None:
    """Unset and empty are the same, and each variable is named once."""
    with pytest.raises(MissingEnvironmentError) as caught:
        expand(text, ENVIRON)
    assert str(caught.value) == f"the environment {names} not set"


def test_references_are_listed() -> None:
    """The names are in their order."""
    assert references("$A/${B_2}/c$/$D") == ("A", "B_2", "D")


@pytest.mark.parametrize(
    ("name", "text"), [("modle", "; did you mean 'model'?"), ("zzz", ""), ("", "")]
)
def test_similar_names_are_proposed(name: str, text: str) -> None:
    """At most one is proposed."""
    assert did_you_mean(name, ["model", "name"]) == text


def test_location_is_written_as_a_path() -> None:
    """Keys are joined by dots, and indexes are in brackets."""
    assert path_text(("a", 0, "b", "c", 1, 2)) == "a[0].b.c[1][2]"
    assert path_text(()) == ""


def refusal(file: Path, content: bytes) -> ConfigError | None:
    """Why these bytes are no snapshot; None where they are one."""
    file.write_bytes(content)
    try:
        compile_snapshot(file)
    except ConfigError as error:
        return error
    return None


WORDS = [
    *("version", "v0.4.0", "model_providers", "model", "name", "access_key", "default", "base_url"),
    *("provider_interface", "data_path", "inline", "model_aliases", "target", "limits", "auto"),
    *("routing_preferences", "description", "models", "client_keys", "openai/a", "openai/*"),
    *(
        "/openai/a",
        "vllm/a",
        "openai",
        "http://h:1",
        "http://[",
        "$A",
        "//",
        "a/",
        "<<",
        "timeouts",
    ),
]
SCALARS = st.sampled_from([*WORDS, 1, 0.4, True, None, ""]) | st.text(max_size=3)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=25,
)
ENTRIES = st.fixed_dictionaries({"model": st.sampled_from(WORDS)}, optional=dict.fromkeys(("name", "access_key", "base_url", "provider_interface", "data_path"), SCALARS) | {"default": st.booleans()})  # fmt: skip
FILES = st.fixed_dictionaries(
    {"version": st.just("v0.4.0")},
    optional={
        "model_providers": st.lists(ENTRIES, max_size=4) | TREES,
        "model_aliases": st.dictionaries(SCALARS, st.fixed_dictionaries({"target": SCALARS})) | TREES,
        "routing_preferences": TREES,
        "limits": TREES,
    },
)  # fmt: skip
FEW = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(FILES | TREES)
@example({"version": "v0.4.0", "model_providers": [{"model": "/a/b", "default": True}]})
def test_any_structure_is_read_or_refused(tmp_path: Path, tree: Any) -> None:
    """Either there is a snapshot, or a ConfigError gives the reason."""
    error = refusal(tmp_path / "gateway.yaml", yaml.safe_dump(tree, allow_unicode=True).encode())
    assert error is None or all(problem.message for problem in error.problems)


@FEW
@given(
    st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
)
@example(b"a: &a {<<: *a}")
@example(b"a: !!bool x")
@example(b"a: !!timestamp x")
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    """Garbage is a ConfigError and no other exception."""
    error = refusal(tmp_path / "gateway.yaml", content)
    assert error is None or error.problems


def test_serve_yaml_is_recognized(tmp_path: Path) -> None:
    """A serve.yaml in place of a gateway.yaml has one problem, which names the way out."""
    file = tmp_path / "serve.yaml"
    file.write_text("http_options: {port: 1}\napplications: [{args: {config: g.yaml}}]\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "line 2: applications: this is a serve.yaml; "
        "name the gateway.yaml, or check this file with --serve"
    )
