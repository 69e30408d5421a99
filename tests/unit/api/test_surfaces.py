"""The surfaces of the API, derived from the dialects."""

from serve_app.api.surfaces import SURFACES, SurfaceAction, surface_name
from serve_app.dialects.registry import CLIENT_DIALECTS, QUESTION_DIALECTS


def test_each_dialect_has_its_surfaces() -> None:
    """Each dialect has a surface that answers; those of conversations one that only decides.

    TypeSafe's has one although no provider is asked in it.
    """
    for dialect in CLIENT_DIALECTS:
        answers = SURFACES[f"/v1{dialect.path}"]
        asks = dialect.name in QUESTION_DIALECTS
        action = SurfaceAction.ASK if asks else SurfaceAction.COMPLETE
        assert (answers.dialect, answers.action) == (dialect, action)
        decides = SURFACES.get(f"/routing/v1{dialect.path}")
        assert (decides is not None) is dialect.holds_conversations
        if decides is not None:
            assert (decides.dialect, decides.action) == (dialect, SurfaceAction.MATCH)
    talking = sum(dialect.holds_conversations for dialect in CLIENT_DIALECTS)
    assert SURFACES["/v1/systemone"].action is SurfaceAction.ASK
    assert len(SURFACES) == len(CLIENT_DIALECTS) + talking + 2


def test_surfaces_keep_their_names() -> None:
    """The names of surfaces do not change, because they are metric labels that dashboards depend
    on.
    """
    names = {path: surface.name for path, surface in SURFACES.items()}
    assert names["/v1/chat/completions"] == "chat"
    assert names["/routing/v1/chat/completions"] == "routing"
    assert names["/v1/messages"] == "messages"
    assert names["/v1/messages/count_tokens"] == "count_tokens"
    assert names["/v1/responses"] == "responses"
    assert names["/v1/embeddings"] == "embeddings"
    assert names["/v1/completions"] == "completions"
    assert names["/v1/decisions"] == "decisions"
    assert names["/v1/systemone"] == "systemone"
    assert names["/v1/route"] == "route"
    assert surface_name("/healthz") == "other"
