"""Routes in the body of a request."""

from hashlib import sha256
from typing import Final

from pydantic import TypeAdapter, ValidationError

from serve_app.config.locations import path_text
from serve_app.config.pydantic_errors import describe_error
from serve_app.config.schema.routes import RoutingPreference
from serve_app.dialects.fields import PREFERENCES, check_name
from serve_app.dialects.json_edits import Document
from serve_app.domain import (
    ModelRef,
    Route,
)
from serve_app.errors import InvalidRequest
from serve_app.routing.policy import (
    Policy,
    RoutedModel,
    effort_conflict,
    no_model,
    place_of_model,
    route_of,
)

MAX_ROUTES: Final = 128
MAX_ROUTE_CHARACTERS: Final = 64 << 10
"""Characters of all texts in the routes of one request, each of which costs the engine time."""

MAX_PREFERENCES: Final = 4 * MAX_ROUTE_CHARACTERS
"""Characters of JSON of the routes of one request, whose validation blocks the event loop."""

_PREFERENCES = TypeAdapter(list[RoutingPreference])


def read_preferences(
    document: Document, policy: Policy, *, known_only: bool
) -> tuple[Route, ...] | None:
    """The routes in the body of a request. Returns None if it has none.

    With ``known_only`` every model must be one that the gateway serves; otherwise any
    ``provider/name`` is allowed. Raises InvalidRequest that names the field.
    """
    member = document.members.get(PREFERENCES)
    if member is None or member.value is None:
        return None
    value = member.value
    if member.value_end - member.value_start > MAX_PREFERENCES:
        message = f"{PREFERENCES}: is longer than {MAX_PREFERENCES} characters of JSON; shorten it"
        raise InvalidRequest(message, PREFERENCES)
    if isinstance(value, list) and len(value) > MAX_ROUTES:
        message = f"{PREFERENCES}: has more than {MAX_ROUTES} routes; send fewer"
        raise InvalidRequest(message, PREFERENCES)
    try:
        entries = _PREFERENCES.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=True)[0]
        detail["loc"] = (PREFERENCES, *detail["loc"])
        steps, message = describe_error(detail)
        raise InvalidRequest(f"{path_text(steps)}: {message}", path_text(steps)) from error
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        check_name(name, f"{PREFERENCES}[{index}].name")
        if name in names[:index]:
            path = f"{PREFERENCES}[{index}].name"
            raise InvalidRequest(f"{path}: duplicate route {name!r}; keep one", path)
    size = sum(len(e.name) + len(e.description) + sum(map(len, e.examples)) for e in entries)
    if size > MAX_ROUTE_CHARACTERS:
        message = (
            f"{PREFERENCES}: has more than {MAX_ROUTE_CHARACTERS} characters of text; shorten it"
        )
        raise InvalidRequest(message, PREFERENCES)
    return tuple(
        route_of(entry, _models(entry, index, policy, known_only=known_only))
        for index, entry in enumerate(entries)
    )


def _models(
    entry: RoutingPreference, index: int, policy: Policy, *, known_only: bool
) -> list[RoutedModel]:
    models: list[RoutedModel] = []
    for position, (name, effort) in enumerate(entry.named):
        path = path_text((PREFERENCES, index, *place_of_model(entry, position)))
        check_name(name, path)
        model = _model(name, policy, known_only=known_only)
        if model is None:
            raise InvalidRequest(f"{path}: {no_model(policy, name, policy.aliases)}", path)
        conflict = effort_conflict(models, model, effort)
        if conflict:
            raise InvalidRequest(f"{path}: {conflict}", path)
        models.append((model, effort))
    return models


def _model(name: str, policy: Policy, *, known_only: bool) -> ModelRef | None:
    resolved = policy.resolve(name)
    if resolved is not None:
        return resolved[0]
    try:
        return None if known_only else ModelRef.parse(name)
    except ValueError:
        return None


def key_of(routes: tuple[Route, ...]) -> str:
    """The key of these routes: equal keys mean equal routes."""
    return "inline:" + sha256(repr(routes).encode("utf-8", "replace")).hexdigest()
