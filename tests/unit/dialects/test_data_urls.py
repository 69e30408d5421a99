"""Images and documents inside a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.data_urls import (
    PNG,
    data_url,
    is_data_url,
    read_url,
    text_in,
    text_of_document,
)


@pytest.mark.parametrize(
    ("url", "media"),
    [
        ("https://a.example/data:,", ir.Media(url="https://a.example/data:,")),
        ("data:image/png;base64,AA==", ir.Media(data="AA==", media_type="image/png")),
        ("DATA:image/png; BASE64,AA==", ir.Media(data="AA==", media_type="image/png")),
        ("data:;base64,AA==", ir.Media(data="AA==")),
        ("data:text/csv;charset=utf-8,a%2Cb", ir.Media(text="a,b", media_type="text/csv")),
        ("data:,a%20b", ir.Media(text="a b", media_type="text/plain")),
        ("data:", ir.Media(text="", media_type="text/plain")),
    ],
)
def test_url_is_read(url: str, media: ir.Media) -> None:
    """A data URL holds base64 or a text; any other URL names what the provider fetches."""
    assert read_url(url) == media
    assert is_data_url(url) is (media.url is None)


@given(st.text())
def test_any_text_is_read_as_url(url: str) -> None:
    """Nothing that a client sends as a URL raises."""
    media = read_url(url)
    assert [media.url, media.data, media.text].count(None) == 2


def test_data_url_is_read_as_it_was_written() -> None:
    """What has no type gets the one that the caller expects."""
    assert data_url(ir.Media(data="AA=="), PNG) == "data:image/png;base64,AA=="
    media = ir.Media(data="AA==", media_type="image/gif")
    assert read_url(data_url(media, PNG)) == media


@pytest.mark.parametrize(
    ("media", "text"),
    [
        (ir.Media(text="hi"), "hi"),
        (ir.Media(data="aGk=", media_type="text/plain"), "hi"),
        (ir.Media(data="aG\nk=", media_type="text/plain"), "hi"),
        (ir.Media(data="aGk=", media_type="application/pdf"), None),
        (ir.Media(data="aGk="), None),
        (ir.Media(data="/w==", media_type="text/plain"), None),
        (ir.Media(data="!", media_type="text/plain"), None),
        (ir.Media(data="é", media_type="text/plain"), None),
        (ir.Media(url="https://a.example", media_type="text/plain"), None),
    ],
)
def test_text_in_a_document(media: ir.Media, text: str | None) -> None:
    """Plain text is one also in base64; what is not UTF-8 stays a file."""
    assert text_in(media) == text
    assert text_of_document(ir.File(media)) == text


def test_name_and_context_go_before_the_text() -> None:
    """A document as text still says what it is."""
    file = ir.File(ir.Media(text="a,b"), "a.csv", "Numbers")
    assert text_of_document(file) == "a.csv\n\nNumbers\n\na,b"
