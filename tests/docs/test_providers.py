"""The guide's table of providers says what the table of providers says."""

from pathlib import Path

import pytest

from serve_app.exchange import Operation
from serve_app.providers.table import PROVIDERS, Auth, ProviderSpec

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "providers.md"
AUTH = {Auth.BEARER: "bearer", Auth.X_API_KEY: "`x-api-key`", Auth.API_KEY: "`api-key`"}
OWN = (Operation.CHAT, Operation.MESSAGES, Operation.RESPONSES)


def row(name: str, spec: ProviderSpec) -> str:
    """A provider's line in the guide."""
    if spec.refused is not None:
        return f"| `{name}` | refused | | |"
    address = f"`{spec.base_url}`" if spec.base_url else "`base_url` is required"
    own = ", ".join(operation for operation in OWN if operation in spec.operations)
    key = AUTH[spec.auth]
    return (
        f"| `{name}` | {address} | {own} | {key}{'' if spec.key_needed else ', if there is one'} |"
    )


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_its_line(name: str) -> None:
    """With its address, what it speaks of its own, and how it takes the key of a chat."""
    assert row(name, PROVIDERS[name]) in GUIDE.read_text().splitlines()


def test_the_guide_lists_no_other() -> None:
    """A row that went goes there, too."""
    section = GUIDE.read_text().partition("\n## The providers\n")[2].partition("\n## ")[0]
    listed = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert listed == list(PROVIDERS)
