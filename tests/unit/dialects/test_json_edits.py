"""Byte-exact edits of a request's body."""

import gzip
import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve_app.dialects.fields import GATEWAY_KEYS, PLANO_METADATA_KEYS
from serve_app.dialects.json_edits import read_document, rewrite_document
from serve_app.dialects.registry import DEFAULT_DIALECT
from serve_app.domain import Json
from serve_app.errors import DuplicateKey, InvalidJson, NestingTooDeep
from tests.unit.dialects.json_texts import KEY, SPACE, VALUE

NOTHING: frozenset[str] = frozenset()


def rewritten(body: str, model: str = "new") -> str:
    return rewrite_document(
        read_document(body.encode(), unique=DEFAULT_DIALECT.fields.read),
        model=model,
        cut=GATEWAY_KEYS,
        cut_metadata=PLANO_METADATA_KEYS,
    ).decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"model":"old"}', '{"model":"new"}'),
        ('{"model":null}', '{"model":"new"}'),
        ('{"model":{"a":[1,"}"]}}', '{"model":"new"}'),
        (' \r\n\t{ "model" : "old" , "n" : 1 }\n', ' \r\n\t{ "model" : "new" , "n" : 1 }\n'),
        ('{"mod\\u0065l":"old"}', '{"mod\\u0065l":"new"}'),
        (
            '{"a":"\\u00e9\\/","model":"old","b":1.0E+2}',
            '{"a":"\\u00e9\\/","model":"new","b":1.0E+2}',
        ),
        ('{"a":"é😀\u2028","model":"old"}', '{"a":"é😀\u2028","model":"new"}'),
        ('{"a":{"model":"inner"},"model":"old"}', '{"a":{"model":"inner"},"model":"new"}'),
        ('{"model":"old","a":"\\ud800"}', '{"model":"new","a":"\\ud800"}'),
        ('{"a":-0,"b":1e999,"c":0.10,"model":""}', '{"a":-0,"b":1e999,"c":0.10,"model":"new"}'),
    ],
)
def test_rewrite_changes_model_only(body: str, expected: str) -> None:
    """Only the model's value is replaced; spacing, escapes and number forms are kept."""
    assert rewritten(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", '{"model": "new"}'),
        ("{ }", '{"model": "new" }'),
        ("\n{\n}\n", '\n{"model": "new"\n}\n'),
        ('{"n":1}', '{"model": "new", "n":1}'),
        ('{ "n":1}', '{"model": "new",  "n":1}'),
        ('{"models":[]}', '{"model": "new"}'),
        ('{"models":[],"fallbacks":[]}', '{"model": "new"}'),
        ('{"models":[],"n":1}', '{"model": "new", "n":1}'),
        ('{"n":1,"models":[]}', '{"model": "new", "n":1}'),
    ],
)
def test_rewrite_inserts_absent_model(body: str, expected: str) -> None:
    """A missing model is inserted first, with a comma only if members follow."""
    assert rewritten(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"models":["a"],"model":"x","n":1}', '{"model":"new","n":1}'),
        ('{"model":"x", "models":["a"], "n":1}', '{"model":"new", "n":1}'),
        ('{"model":"x","n":1,"models":["a"]}', '{"model":"new","n":1}'),
        ('{ "models" : ["a"] , "model":"x"}', '{ "model":"new"}'),
        ('{"model":"x" , "models" : ["a"] }', '{"model":"new" }'),
        ('{"models":[],"fallbacks":[],"model":"x"}', '{"model":"new"}'),
        ('{"model":"x","models":[],"fallbacks":[],"n":1}', '{"model":"new","n":1}'),
        ('{"fallbacks":[],"model":"x","routing_preferences":[{"a":1}]}', '{"model":"new"}'),
        ('{"a":1,"models":[],"model":"x","fallbacks":[],"b":2}', '{"a":1,"model":"new","b":2}'),
        ('{"a":{"models":[1]},"model":"x"}', '{"a":{"models":[1]},"model":"new"}'),
    ],
)
def test_rewrite_cuts_gateway_keys(body: str, expected: str) -> None:
    """The gateway's keys are removed, each with one comma, wherever they are."""
    assert rewritten(body) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ('{"archgw_preference_config":"x"}', "{}"),
        ('{"plano_preference_config":[1],"user":"u"}', '{"user":"u"}'),
        ('{"user":"u", "plano_preference_config":{"a":1} , "b":2}', '{"user":"u" , "b":2}'),
        ('{"a":1,"archgw_preference_config":1,"plano_preference_config":2}', '{"a":1}'),
        ('{"user" : "é" }', '{"user" : "é" }'),
        ("null", "null"),
        ('["plano_preference_config"]', '["plano_preference_config"]'),
        ('"plano_preference_config"', '"plano_preference_config"'),
    ],
)
def test_rewrite_cuts_plano_metadata_keys(metadata: str, expected: str) -> None:
    """Plano's routing keys inside metadata are removed; other metadata is kept as sent."""
    body = '{"model":"m","metadata":%s,"n":1}'
    assert rewritten(body % metadata) == (body % expected).replace('"m"', '"new"')


def test_rewrite_keeps_nested_metadata() -> None:
    """Only top-level metadata is edited."""
    body = (
        '{"model":"new","a":{"metadata":{"plano_preference_config":1}},"plano_preference_config":2}'
    )
    assert rewritten(body) == body


def test_rewrite_encodes_model_name_as_json() -> None:
    """Quotes, backslashes and characters of any script in a model name are written as valid JSON."""
    name = 'a"b\\c/é😀\n'
    assert json.loads(rewritten("{}", name)) == {"model": name}


def test_rewrite_keeps_lone_surrogate_in_model_name() -> None:
    """A model name with a lone surrogate, which a client may send, is written back unchanged."""
    document = read_document(b'{"model":"vllm/\\ud800"}', unique=DEFAULT_DIALECT.fields.read)
    name = document.get("model").removeprefix("vllm/")
    assert json.loads(
        rewrite_document(document, model=name, cut=GATEWAY_KEYS, cut_metadata=PLANO_METADATA_KEYS)
    ) == {"model": "\ud800"}


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """The keys and values of one object in source form, each key once."""
    pairs: dict[str, tuple[str, str]] = {}
    for key in draw(st.lists(KEY, max_size=6)):
        name = json.loads(key)
        if name.casefold() not in DEFAULT_DIALECT.fields.read - GATEWAY_KEYS or name == "n":
            pairs.setdefault(name.casefold(), (key, draw(VALUE)))
    return [
        pair
        for pair in pairs.values()
        if json.loads(pair[0]).casefold() not in GATEWAY_KEYS or json.loads(pair[0]) in GATEWAY_KEYS
    ]


@settings(max_examples=40)
@given(members(), members(), st.lists(SPACE, min_size=6, max_size=6), VALUE)
def test_rewrite_keeps_bytes_around_model(
    before: list[tuple[str, str]], after: list[tuple[str, str]], space: list[str], value: str
) -> None:
    """All bytes before and after the model's value are kept, whatever the object contains."""
    own = {json.loads(key) for key, _ in (*before, *after)} & GATEWAY_KEYS
    left = "".join(f"{space[0]}{key}:{space[1]}{member}{space[2]}," for key, member in before)
    right = "".join(f",{space[3]}{key}{space[1]}:{member}{space[4]}" for key, member in after)
    head, tail = (
        f'{space[5]}{{{left}{space[0]}"model"{space[2]}:{space[3]}',
        f"{space[4]}{right}}}{space[5]}",
    )
    document = read_document(f"{head}{value}{tail}".encode(), unique=NOTHING)
    assert rewrite_document(document, model="né", cut=NOTHING) == f'{head}"né"{tail}'.encode()
    assert own <= {key for key, _ in document.order}


@settings(max_examples=40)
@given(members(), st.none() | st.integers(0, 6), st.lists(SPACE, min_size=3, max_size=3))
def test_rewritten_body_parses_equal(
    pairs: list[tuple[str, str]], place: int | None, space: list[str]
) -> None:
    """The rewritten body parses as the old one with the gateway's keys removed and the model set,
    in order.
    """
    if place is not None:
        pairs.insert(place, ('"model"', '"old"'))
    text = ",".join(f"{space[0]}{key}{space[1]}:{value}{space[2]}" for key, value in pairs)
    body = rewrite_document(
        read_document(f"{{{text}}}".encode(), unique=DEFAULT_DIALECT.fields.read),
        model="m",
        cut=GATEWAY_KEYS,
        cut_metadata=PLANO_METADATA_KEYS,
    )
    old: list[tuple[str, Json]] = json.loads(f"{{{text}}}", object_pairs_hook=list)
    kept = [
        (key, "m" if key == "model" else value) for key, value in old if key not in GATEWAY_KEYS
    ]
    expected = [("model", "m"), *kept] if place is None else kept
    assert repr(json.loads(body, object_pairs_hook=list)) == repr(expected)  # repr: 1 is not 1.0


@pytest.mark.parametrize("key", sorted(DEFAULT_DIALECT.fields.read))
def test_duplicate_gateway_key_is_rejected(key: str) -> None:
    """A duplicate top-level key that the gateway reads is rejected by its name."""
    with pytest.raises(DuplicateKey) as caught:
        read_document(f'{{"{key}":1,"x":2,"{key}":1}}'.encode(), unique=DEFAULT_DIALECT.fields.read)
    assert caught.value.param == key
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize(
    "key", ["Model", "MODEL", "mOdEl", "me\u017f\u017fages", "\\u004dodel", "Metadata"]
)
def test_gateway_key_in_other_case_is_rejected(key: str) -> None:
    """A gateway key in another case is rejected even if it is alone, because some parsers ignore
    case.
    """
    with pytest.raises(DuplicateKey):
        read_document(f'{{"{key}":"a"}}'.encode(), unique=DEFAULT_DIALECT.fields.read)


def test_other_duplicate_keys_are_kept() -> None:
    """Duplicates of keys that the gateway does not read are passed on."""
    body = '{"user":1,"model":"new","user":2,"User":3}'
    document = read_document(body.encode(), unique=DEFAULT_DIALECT.fields.read)
    assert document.get("user") == 2
    assert rewritten(body) == body


def test_escaped_duplicate_key_is_rejected() -> None:
    """An escape in a key's name does not hide a duplicate."""
    with pytest.raises(DuplicateKey):
        read_document(b'{"model":"a","\\u006dodel":"b"}', unique=DEFAULT_DIALECT.fields.read)


@pytest.mark.parametrize(
    ("body", "place", "text"),
    [
        (b'{"a" 1}', (1, 6), "expected ':'"),
        (b'{"a":1,}', (1, 8), "expected a key in double quotes"),
        (b"{", (1, 2), "expected a key in double quotes"),
        (b"{a:1}", (1, 2), "expected a key in double quotes"),
        (b"{'a':1}", (1, 2), "expected a key in double quotes"),
        (b'{"a":1 "b":2}', (1, 8), "expected ',' or '}'"),
        (b'{"a":1', (1, 7), "expected ',' or '}'"),
        (b'{"a":01}', (1, 7), "expected ',' or '}'"),
        (b'{"a":1.}', (1, 7), "expected ',' or '}'"),
        (b'{"a":}', (1, 6), "expecting value"),
        (b'{"a":', (1, 6), "expecting value"),
        (b'{\n"a": 1,\n  "b": [1, tru]}', (3, 12), "expecting value"),
        (b'{\r\n "a": x}', (2, 7), "expecting value"),
        ('{"é😀": x}'.encode(), (1, 8), "expecting value"),
        (b'{"a":"b', (1, 6), "unterminated string"),
        (b'{"a":"\x01"}', (1, 7), "invalid control character"),
        (b'{"a":"\\x"}', (1, 7), "invalid \\escape"),
        (b'{"a":1} x', (1, 8), "extra data follows the object"),
        (b'{"a":1}{}', (1, 8), "extra data follows the object"),
        (b'{"a":1}\n,', (1, 8), "extra data follows the object"),
        (b'{"a":1}\x00', (1, 8), "extra data follows the object"),
        (b'{"a": NaN}', (1, 7), "NaN"),
        (b'{"a": ' + b"1" * 5000 + b"}", (1, 7), "digits"),
    ],
)
def test_invalid_json_is_reported_by_line_and_column(
    body: bytes, place: tuple[int, int], text: str
) -> None:
    """Invalid JSON is rejected with the line, the column and the error at that position."""
    with pytest.raises(InvalidJson) as caught:
        read_document(body, unique=DEFAULT_DIALECT.fields.read)
    assert text in str(caught.value)
    assert f"at line {place[0]}, column {place[1]}" in str(caught.value)


def test_long_number_is_rejected_without_python_advice() -> None:
    """A number with thousands of digits is rejected without advice about Python's settings."""
    with pytest.raises(InvalidJson) as caught:
        read_document(b'{"a": ' + b"1" * 5000 + b"}", unique=DEFAULT_DIALECT.fields.read)
    assert "sys." not in str(caught.value)


@pytest.mark.parametrize("body", [gzip.compress(b"{}", mtime=0), b"\x28\xb5\x2f\xfd\x00\xff"])
def test_compressed_body_is_reported(body: bytes) -> None:
    """A compressed body is reported as such and not as an invalid byte."""
    with pytest.raises(InvalidJson, match="compressed; send it uncompressed"):
        read_document(body, unique=DEFAULT_DIALECT.fields.read)


def test_byte_order_mark_is_reported() -> None:
    """A byte order mark is reported by name, because editors do not show it."""
    with pytest.raises(InvalidJson, match="without a byte order mark"):
        read_document(b"\xef\xbb\xbf{}", unique=DEFAULT_DIALECT.fields.read)


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
def test_empty_body_is_reported(body: bytes) -> None:
    """An empty body has its own message."""
    with pytest.raises(InvalidJson, match="the request body is empty; send a JSON object"):
        read_document(body, unique=DEFAULT_DIALECT.fields.read)


@pytest.mark.parametrize(
    "body", [b"[]", b'[{"model":"a"}]', b"null", b'"a"', b"1", b"x", b"\xef\xbb\xbf{}"]
)
def test_body_must_be_a_json_object(body: bytes) -> None:
    """A body that is not a JSON object is rejected with the form to send."""
    with pytest.raises(InvalidJson, match=re.escape("must be a JSON object, written {...}")):
        read_document(body, unique=DEFAULT_DIALECT.fields.read)


@pytest.mark.parametrize(
    ("body", "offset"),
    [(b"\xff", 0), (b'{"a":"\xc3"}', 6), (b'{"a":"\xed\xa0\x80"}', 6), (b'{"\xc0\xaf":1}', 2)],
)
def test_body_must_be_utf_8(body: bytes, offset: int) -> None:
    """Invalid UTF-8, overlong forms and surrogates are reported by the offset of their byte."""
    with pytest.raises(InvalidJson, match=f"not valid UTF-8 at byte {offset}; encode it as UTF-8$"):
        read_document(body, unique=DEFAULT_DIALECT.fields.read)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    ],
)
def test_deep_nesting_is_rejected(body: bytes) -> None:
    """A hundred thousand levels of nesting are an error of the request, not of the gateway."""
    with pytest.raises(NestingTooDeep):
        read_document(body, unique=DEFAULT_DIALECT.fields.read)


@given(st.binary(max_size=60))
@example(b'{"model":"a"}\xff')
def test_read_document_rejects_garbage_with_client_error(body: bytes) -> None:
    """Arbitrary bytes are either parsed or rejected with a client error."""
    try:
        document = read_document(body, unique=DEFAULT_DIALECT.fields.read)
    except (InvalidJson, DuplicateKey, NestingTooDeep):
        return
    assert document.text.encode() == body


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers())))
def test_members_match_json_parser(content: dict[str, Any]) -> None:
    """Every top-level value is available, and its span in the text parses to it."""
    document = read_document(json.dumps(content).encode(), unique=NOTHING)
    assert {key: document.get(key) for key in document.members} == content
    for key, member in document.order:
        assert json.loads(document.text[member.value_start : member.value_end]) == content[key]


def test_absent_key_returns_default() -> None:
    """Reading an absent key returns the caller's default."""
    document = read_document(b'{"a":null}', unique=NOTHING)
    assert (document.get("a", 1), document.get("b", 1), document.get("b")) == (None, 1, None)


def test_plano_metadata_keys_cover_both_names() -> None:
    """Both names that Plano has used for its key are known."""
    assert {"archgw_preference_config", "plano_preference_config"} == PLANO_METADATA_KEYS
