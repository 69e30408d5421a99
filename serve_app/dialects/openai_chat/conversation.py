"""The conversation in a chat completion's ``messages`` and ``tools``, read when it is needed."""

from functools import cached_property

from serve_app.dialects.json_values import object_of, objects_of
from serve_app.dialects.message_list import MessageListConversation, read_turns
from serve_app.domain import Json

__all__ = ["ChatConversation", "read_turns", "refers_to_audio"]


class ChatConversation(MessageListConversation):
    """A conversation of OpenAI chat; each property is read once, at its first use."""

    @cached_property
    def has_provider_state(self) -> bool:
        """True if the conversation refers to an answer in audio, which only its provider has."""
        return refers_to_audio(self._messages)

    @property
    def _wants_schema(self) -> bool:
        return object_of(self._document.get("response_format")).get("type") == "json_schema"


def refers_to_audio(messages: Json) -> bool:
    """True if an answer is given by the id of its audio alone, as OpenAI has it."""
    answers = (message for message in objects_of(messages) if message.get("role") == "assistant")
    return any(isinstance(answer.get("audio"), dict) for answer in answers)
