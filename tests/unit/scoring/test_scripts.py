"""Which texts the bundled encoder is taken to read."""

import pytest

from serve_app.scoring.scripts import any_unreadable, is_unreadable


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "2 + 2 = ?",
        "🎉🎉",
        "Wie spät ist es?",
        "Çok güzel, teşekkürler",
        "Dzień dobry, gdzie jest dworzec?",
        "请帮我写一个函数",
        "明日の東京の天気は",
        "translate this into English: Добрый день, когда вы открываетесь?",
        "what does 안녕하세요 mean",
        "x = f(λ, π)",
    ],
)
def test_latin_chinese_and_japanese_are_read(text: str) -> None:
    """So are texts with a few words in Latin letters, and texts without letters."""
    assert not is_unreadable(text)


@pytest.mark.parametrize(
    "text",
    [
        "Переведи это письмо, пожалуйста",
        "오늘 날씨 어때요?",
        "اكتب قصيدة عن البحر",
        "कृपया मेरा ऑर्डर रद्द करें",
        "Καλημέρα σας",
        "สวัสดีครับ",
        "fix SQL: почему запрос такой медленный",
    ],
)
def test_other_scripts_are_not_read(text: str) -> None:
    """One or two names in Latin letters change nothing."""
    assert is_unreadable(text)


def test_one_example_is_enough() -> None:
    """Examples in a script show that its texts can be compared."""
    assert any_unreadable(["hello", "Где мой заказ?"])
    assert not any_unreadable(["hello", "bonjour"])
    assert not any_unreadable([])
