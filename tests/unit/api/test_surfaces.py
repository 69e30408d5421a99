"""The surfaces of the API, derived from the dialects."""

from serve_app.api.surfaces import SURFACES, SurfaceAction, surface_name
from serve_app.dialects.registry import CLIENT_DIALECTS


def test_each_dialect_has_two_surfaces() -> None:
    """Each dialect has a surface that completes and a surface that only decides."""
    for dialect in CLIENT_DIALECTS:
        answers = SURFACES[f"/v1{dialect.path}"]
        decides = SURFACES[f"/routing/v1{dialect.path}"]
        assert (answers.dialect, answers.action) == (dialect, SurfaceAction.COMPLETE)
        assert (decides.dialect, decides.action) == (dialect, SurfaceAction.MATCH)
    assert len(SURFACES) == 2 * len(CLIENT_DIALECTS) + 1


def test_surfaces_keep_their_names() -> None:
    """The names of surfaces do not change, because they are metric labels that dashboards depend
    on.
    """
    names = {path: surface.name for path, surface in SURFACES.items()}
    assert names["/v1/chat/completions"] == "chat"
    assert names["/routing/v1/chat/completions"] == "routing"
    assert names["/v1/route"] == "route"
    assert surface_name("/healthz") == "other"
