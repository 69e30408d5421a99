"""Users who say that it is still wrong, and texts that only look like it."""

import time

import pytest

from serve_app.dialects.still_wrong import says_still_wrong


@pytest.mark.parametrize(
    "text",
    [
        "still wrong",
        "Still not working!",
        "No, it's still broken.",
        "it still doesn’t work",  # noqa: RUF001 - typed on a phone
        "That still does not compile",
        "the test is still failing, please look again",
        "The unit tests still fail:\n```\nAssertionError\n```",
        "Hmm, I still get the same error:\nKeyError: 'x'",
        "nope same error again",
        "That didn't help.",
        "Thanks! But it is still not right",
        "why is it still not working?",
        "**still wrong**",
        "Das ist immer noch falsch",
        "Es geht leider immer noch nicht.",
        "Funktioniert immer noch nicht",
        "Nein, der Test ist noch immer kaputt",
        "Immer noch derselbe Fehler",
        "Das hat nicht geholfen",
        "Ça ne marche toujours pas",
        "C'est toujours faux",
        "Non, encore la même erreur",
        "Sigue sin funcionar",
        "todavía no funciona",
        "Sigue dando el mismo error",
        "Ancora non funziona",
        "No, è ancora sbagliato",
        "Ainda não funciona",
        "continua dando erro",
        "Het werkt nog steeds niet",
        "Nadal nie działa",
        "Всё ещё не работает",
        "нет, все равно неправильно",
        "还是不行",
        "代码还是报错了。",
        "まだ動きません",
        "まだエラーが出ます。",
        "아직도 안 돼요",
        "여전히 에러가 나요",
    ],
)
def test_complaint_is_recognized(text: str) -> None:
    """In several languages, with other sentences before and after it."""
    assert says_still_wrong(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It works now, thanks",
        "Why does my code not work?",
        "Write an essay about why clocks are still wrong in old churches",
        "If it is still wrong, tell me",
        "Translate 'it is still wrong today for many people' into French",
        "The engine still not working was the topic of the film",
        "He is still wrong about the war in his book",
        "Stillwrong Ltd.",
        "Is it still not too late to apply?",
        "Ich habe immer noch nicht verstanden was Monaden sind",
        "Warum ist der Himmel immer noch blau",
        "Je n'ai toujours pas compris les monades",
        "Todavía no funciona el metro nuevo de Quito según el artículo",
        "还是不行的话就换一种方法",
        "x" * 600 + ". still wrong",
    ],
)
def test_other_text_is_not_a_complaint(text: str) -> None:
    """A sentence that says more than that is not one."""
    assert not says_still_wrong(text)


@pytest.mark.parametrize(
    "text", ["no " * 400, "still " * 200, "the " * 300, "a" * 5000, "immer noch " * 90, "- " * 300]
)
def test_long_texts_cost_little(text: str) -> None:
    """Repetitions do not make the patterns slow."""
    began = time.perf_counter()
    says_still_wrong(text)
    assert time.perf_counter() - began < 0.05
