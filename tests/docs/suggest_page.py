"""The transcript of ``fingerpost suggest`` in docs/guides/routes.md.

A provider on loopback gives the answers of suggested.json in the place of a model.
``python -m tests.docs.suggest_page`` writes the transcript anew, for example after a change of the
embedded engine, whose figures it shows.
"""

import json
import tempfile
from pathlib import Path
from typing import Final

from tests.docs.commands import ROOT, Block, blocks, make_workspace, run
from tests.unit.cli.example_provider import ExampleProvider, writes

PAGE: Final = ROOT / "docs/guides/routes.md"
ADDRESS: Final = "http://127.0.0.1:11434"
"""That of the provider in the file that the page shows."""

_COMMAND: Final = "$ fingerpost suggest "


def shown() -> Block:
    """The block with the transcript."""
    (block,) = (block for block in blocks(PAGE) if block.text.startswith(_COMMAND))
    return block


def transcript(command: str) -> str:
    """What a command prints, errors included, after the command itself."""
    examples = json.loads((Path(__file__).parent / "suggested.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder, ExampleProvider(writes(examples)) as provider:
        make_workspace(Path(folder), PAGE)
        file = Path(folder) / "shop.yaml"
        file.write_text(file.read_text("utf-8").replace(ADDRESS, provider.url), "utf-8")
        status, output = run(command, Path(folder))
        text = file.read_text("utf-8").replace(provider.url, ADDRESS)
    if status:
        raise AssertionError(output)
    if "--write" not in command:
        return f"$ {command}\n{output}"
    return f"$ {command}\n{output}$ cat shop.yaml\n{text}"


if __name__ == "__main__":
    block = shown()
    new = transcript(block.text.splitlines()[0].removeprefix("$ "))
    PAGE.write_text(PAGE.read_text("utf-8").replace(block.text, new), "utf-8")
