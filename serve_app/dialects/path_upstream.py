"""A provider whose API has one path for each operation, as those of OpenAI and Anthropic."""

from dataclasses import dataclass

from serve_app.dialects import ir
from serve_app.dialects.fields import Fields
from serve_app.dialects.json_edits import Document, Quirk, rewrite_document
from serve_app.domain import Json
from serve_app.exchange import PATHS, Operation


@dataclass(frozen=True, slots=True)
class PathUpstream:
    """What the upstream dialects of such providers have in common."""

    operation: Operation

    def address(self, model: str, *, stream: bool) -> str:
        """The same for every model, streamed or not."""
        del model, stream
        return PATHS[self.operation]

    def read_usage(self, usage: Json) -> ir.Usage | None:
        """Nothing, unless a dialect counts tokens."""
        del usage
        return None

    def effort_fields(self, document: Document, model: str, effort: str) -> dict[str, Json]:
        """Nothing, unless a dialect has words for an effort."""
        del document, model, effort
        return {}

    def pass_on(self, document: Document, fields: Fields, model: str, quirk: Quirk) -> bytes:
        """The client's body with another model and without the gateway's own keys."""
        return rewrite_document(
            document, model=model, cut=fields.own, cut_metadata=fields.metadata, quirk=quirk
        )
