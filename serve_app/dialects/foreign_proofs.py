"""Takes what another provider's model thought out of a body that is passed on.

A session can move from a provider of another dialect to one of the client's own. The client then
sends back thoughts whose proof is in an envelope of the gateway (``signatures.py``), which the
provider would refuse. A body without such an envelope is passed on as it is.
"""

import json
from collections.abc import Callable
from typing import Final

from serve_app.dialects.fields import Fields
from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.signatures import PREFIX, unwrap
from serve_app.domain import Json

_PROOFS: Final = ("signature", "data", "encrypted_content")
"""Where the dialects keep a proof."""


def without_foreign_proofs(document: Document, fields: Fields) -> Document:
    """The document without thoughts of other dialects in its messages or items."""
    member = document.members.get(fields.thoughts_in or "")
    if PREFIX not in document.text or member is None or not isinstance(member.value, list):
        return document
    kept = _without_thoughts(member.value)
    if kept == member.value:
        return document
    text = document.text
    changed = text[: member.value_start] + json.dumps(kept) + text[member.value_end :]
    return read_document(changed.encode("utf-8", "surrogatepass"), unique=frozenset())


def _without_thoughts(entries: list[Json]) -> list[Json]:
    kept = []
    for entry in entries:
        if _is_foreign(entry):
            continue
        changed = entry
        for key in ("content", "reasoning_details"):
            changed = _filtered(changed, key, _is_foreign)
        if isinstance(changed, dict) and changed is not entry and changed.get("content") == []:
            continue  # there was nothing else in it
        kept.append(changed)
    return kept


def _filtered(entry: Json, key: str, is_gone: Callable[[Json], bool]) -> Json:
    parts = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(parts, list) or not any(map(is_gone, parts)):
        return entry
    return {**entry, key: [part for part in parts if not is_gone(part)]}


def _is_foreign(part: Json) -> bool:
    if not isinstance(part, dict):
        return False
    proofs = (part.get(key) for key in _PROOFS)
    return any(isinstance(proof, str) and unwrap(proof) is not None for proof in proofs)
