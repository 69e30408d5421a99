"""Tools that a provider runs itself, in a request for a provider of another dialect."""

from serve_app.dialects import ir
from serve_app.errors import InvalidRequest


def places_of_server_tools(request: ir.Request) -> list[str]:
    """Where the client's body has those that the provider leaves out.

    Raises InvalidRequest where the client counts on one: it offers no other tool, or the model has
    to call it.
    """
    names = {tool.name for tool in request.tools}
    choice = request.tool_choice
    forced = choice.name if choice is not None and choice.mode is ir.ToolMode.NAMED else None
    if request.server_tools and (not names or (forced is not None and forced not in names)):
        meant = (tool for tool in request.server_tools if tool.kind == forced)
        tool = next(meant, request.server_tools[0])  # its name may be another than its kind
        message = (
            f"{tool.at}: the provider of this model does not run the tool {tool.kind!r}; "
            "leave it out, or choose a model whose provider does"
        )
        raise InvalidRequest(message, tool.at)
    return [tool.at for tool in request.server_tools]
