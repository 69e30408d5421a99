"""Hypothesis strategies for JSON texts in many spellings."""

from hypothesis import strategies as st

SPACE = st.text(" \t\r\n", max_size=2)
NUMBER = st.from_regex(
    r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
CHARACTER = st.one_of(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'),
    st.sampled_from(
        ["\\n", "\\\\", '\\"', "\\/", "\\u0041", "\\ud83d\\ude00", "\\uD800", "}", ","]
    ),
)
STRING = st.lists(CHARACTER, max_size=6).map(lambda characters: f'"{"".join(characters)}"')
LITERAL = st.one_of(NUMBER, STRING, st.sampled_from(["true", "false", "null"]))
KEY = st.one_of(
    STRING,
    st.sampled_from(['"models"', '"fallbacks"', '"routing_preferences"', '"m\\u006fdels"', '"n"']),
)


@st.composite
def spaced(draw: st.DrawFn, inner: st.SearchStrategy[str], brackets: str, *, keys: bool) -> str:
    members = []
    for value in draw(st.lists(inner, max_size=4)):
        key = f"{draw(KEY)}{draw(SPACE)}:{draw(SPACE)}" if keys else ""
        members.append(f"{draw(SPACE)}{key}{value}{draw(SPACE)}")
    return brackets[0] + (",".join(members) or draw(SPACE)) + brackets[1]


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(spaced(inner, "[]", keys=False), spaced(inner, "{}", keys=True))


VALUE = st.recursive(LITERAL, _nested, max_leaves=6)
