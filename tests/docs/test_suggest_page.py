"""The transcript of ``fingerpost suggest`` in the guide of routes."""

import re
from typing import Final

from tests.docs.suggest_page import shown, transcript

_FIGURES: Final = re.compile(r"^Measured .*?^Each third", re.DOTALL | re.MULTILINE)


def test_transcript_is_what_the_command_prints() -> None:
    """But for the figures, which depend on the weights and the processor, and for times."""
    block = shown()
    output = transcript(block.text.splitlines()[0].removeprefix("$ "))
    texts = [
        re.sub(r"\d+ s\b", "N s", _FIGURES.sub("figures", text)) for text in (block.text, output)
    ]
    assert texts[0] == texts[1], "run `python -m tests.docs.suggest_page`"
    assert "figures" in texts[0]
