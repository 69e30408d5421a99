"""The section ``logs``: what the gateway writes of requests and of decisions, and where."""

from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

OFF: Final = "off"
"""The value of ``to`` for a log that is not written."""

STDERR: Final = "stderr"


def _of_off(value: object) -> object:
    """Reads ``off`` without quotes, which YAML takes for false."""
    return OFF if value is False else value


LogTarget = Annotated[Text, BeforeValidator(_of_off)]
"""``off``, ``stderr``, or the path of a file."""


class LogSize(Section):
    """Where a log goes, and how large its files become."""

    to: LogTarget = OFF
    max_megabytes: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="size at which the file is renamed to `NAME.1` and a new one begins, MiB",
    )
    files: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="maximum number of files, the current one included; the oldest is deleted",
    )

    @property
    def file(self) -> str | None:
        """The file that is written; None if it is off, or goes to standard error."""
        return None if self.to in (OFF, STDERR) else self.to


class AccessLogSection(LogSize):
    """Log of requests: one line of JSON for each, without keys and without texts."""

    to: LogTarget = Field(
        default=OFF,
        description="where the lines go: `off`, `stderr`, or a file; a relative path starts at this file",
    )


class DecisionLogSection(LogSize):
    """Log of decisions by content, in the format of `fingerpost eval`."""

    to: LogTarget = Field(
        default=OFF,
        description="where the lines go: `off`, or a file; a relative path starts at this file",
    )
    texts: bool = Field(
        default=False,
        description="whether the texts of conversations are written, as far as the Orchestrator saw them; "
        "`fingerpost eval` and `tune` need them",
    )
    sample: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="share of the decisions that is written, chosen by the request's id",
    )

    @model_validator(mode="after")
    def _is_a_file(self) -> Self:
        if self.to == STDERR:
            raise PydanticCustomError("logs", "`to` must be off or a file; name a file")
        return self


class Logs(Section):
    """Logs of requests and of decisions."""

    access: AccessLogSection = AccessLogSection()
    decisions: DecisionLogSection = DecisionLogSection()

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if self.access.file is not None and self.access.file == self.decisions.file:
            raise PydanticCustomError("logs", "both logs name the same file; name two")
        return self
