"""The list of models in both dialects."""

from pathlib import Path

from serve_app.api.models import render_model, render_models
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/a}}
  - {{model: vllm/b, base_url: "http://h:1"}}
model_aliases:
  fast: {{target: openai/a}}
"""


def test_openai_page_names_owner(tmp_path: Path) -> None:
    """In the OpenAI page a model is owned by its provider and an alias by the gateway."""
    policy = snapshot_of(tmp_path, TEXT).policy
    page = render_models(policy, anthropic=False)
    assert page["object"] == "list"
    owners = {entry["id"]: entry["owned_by"] for entry in page["data"]}
    assert owners == {"openai/a": "openai", "vllm/b": "vllm", "fast": "fingerpost"}
    assert render_model(policy, "fast") in page["data"]


def test_anthropic_page_has_cursors(tmp_path: Path) -> None:
    """The Anthropic page lists the names in order, with the first and the last as cursors."""
    policy = snapshot_of(tmp_path, TEXT).policy
    page = render_models(policy, anthropic=True)
    names = [entry["id"] for entry in page["data"]]
    assert names == policy.names()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (names[0], names[-1], False)


def test_page_without_models_is_empty(tmp_path: Path) -> None:
    """A page without entries has null cursors."""
    policy = snapshot_of(tmp_path, f"{V}model_providers: []\n").policy
    page = render_models(policy, anthropic=True)
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}
