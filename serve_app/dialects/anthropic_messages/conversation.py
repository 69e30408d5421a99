"""The conversation in ``system``, ``messages`` and ``tools`` of Anthropic messages.

Source: Anthropic API reference, "Messages".
"""

from functools import cached_property

from serve_app.dialects.json_values import object_of
from serve_app.dialects.message_list import (
    MessageListConversation,
    is_user_turn,
    system_texts,
    text_of,
    without_last_system,
)


class MessagesConversation(MessageListConversation):
    """A conversation of Anthropic messages; each property is read once, at its first use."""

    @cached_property
    def system_text(self) -> str:
        """The text of ``system`` and of all system messages, joined by line breaks."""
        texts = (text_of(self._document.get("system")), system_texts(self._messages))
        return "\n".join(text for text in texts if text)

    @cached_property
    def user_spoke_last(self) -> bool:
        """True if the last message is the user's own, not a tool result.

        System messages after it do not count: agents add them to the user's message.
        """
        return is_user_turn(without_last_system(self._messages))

    @cached_property
    def has_provider_state(self) -> bool:
        """True if the request continues a thread, or runs in a container, of its provider."""
        thread, container = self._document.get("thread"), self._document.get("container")
        if isinstance(container, dict):
            container = container.get("id")
        continues = isinstance(thread, dict) and thread.get("type") == "continue"
        return continues or (isinstance(container, str) and bool(container))

    @property
    def _wants_schema(self) -> bool:
        own = object_of(self._document.get("output_config")).get("format")
        return own is not None or self._document.get("output_format") is not None
