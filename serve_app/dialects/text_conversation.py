"""A request that holds one text instead of a conversation."""

from dataclasses import dataclass

from serve_app.domain import Need, Setback, Turn


@dataclass(frozen=True, slots=True)
class TextConversation:
    """One text of a user as a conversation; without turns if it is empty."""

    text: str
    characters: int
    """The length of the whole body."""
    system_text: str = ""
    tool_names: tuple[str, ...] = ()
    has_open_tool_loop: bool = False
    setback: Setback | None = None
    has_provider_state: bool = False
    cache_lifetime_s: float = 0.0
    max_output_tokens: int = 0
    needs: frozenset[Need] = frozenset()
    attached_characters: int = 0

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The text as the turn of a user."""
        return (Turn("user", self.text),) if self.text else ()

    @property
    def first_user_text(self) -> str | None:
        """The text; None if it is empty."""
        return self.text or None

    @property
    def user_spoke_last(self) -> bool:
        """True if the text is more than space."""
        return bool(self.text.strip())
