"""Writes an older file of Plano in the form of v0.4.0, with its comments."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from serve_app.config.locations import ConfigError, Problem, path_text, problem_at
from serve_app.config.migrate import yaml_comments
from serve_app.config.upgrade import Upgraded, upgrade
from serve_app.config.yaml_tree import parse
from serve_app.domain import Json


@dataclass(frozen=True, slots=True)
class Migrated:
    """A file in the form of v0.4.0."""

    text: str
    notes: tuple[str, ...]
    """What was changed, and what of the file never was in force; empty where nothing changed."""


def migrate(text: str, file: str) -> Migrated:
    """The same configuration in the form of v0.4.0; a file that has this form stays as it is.

    Raises ConfigError for a text that is no configuration, or whose older parts can't be read.
    What else is wrong with it stays in it.
    """
    tree = parse(file, text.encode("utf-8", "surrogatepass"))
    form = upgrade(tree.values)
    found = [problem_at(tree.lines, *problem) for problem in form.problems]
    if found or tree.problems:
        raise ConfigError(file, tuple(sorted([*tree.problems, *found], key=lambda p: p.line)))
    if _same(tree.values, form.values):
        return Migrated(text, ())

    newline = "\r\n" if "\r\n" in text else "\n"
    old = text.replace("\r\n", "\n")
    try:
        new = yaml_comments.rewritten(old, tree.values, form)
        written = upgrade(parse(file, new.encode()).values)
    except (yaml_comments.RewriteError, ConfigError) as error:
        raise _refusal(file) from error
    if not _same(written.values, form.values):
        raise _refusal(file)
    lost = Counter(remarks(old)) - Counter(remarks(new))
    notes = [*_changes(tree.values, form), *form.ignored]
    notes += [f"the comment {remark!r} stood where it can't be kept" for remark in lost]
    return Migrated(new.replace("\n", newline), tuple(notes))


def _refusal(file: str) -> ConfigError:
    message = "is written in a way that can't be changed; write it without anchors and << first"
    return ConfigError(file, (Problem(0, "", message),))


def _same(one: Json, other: Json) -> bool:
    """Equality of what YAML can say, for numbers that are none, too."""
    return json.dumps(one, default=repr, sort_keys=True) == json.dumps(
        other, default=repr, sort_keys=True
    )


def _changes(values: Mapping[str, Json], form: Upgraded) -> Iterator[str]:
    if values.get("version") != form.values.get("version"):
        yield f"version: {values.get('version')} is {form.values.get('version')} now"
    if "llm_providers" in values:
        yield "llm_providers is model_providers now"
    if isinstance(values.get("listeners"), dict):
        yield "listeners is a list now"
    for place, origin in form.origins.items():
        if place[0] == "routing_preferences" and len(place) == 2:  # noqa: PLR2004 - an entry
            yield f"{path_text(origin)} is {path_text(place)} now"


def remarks(text: str) -> Iterator[str]:
    """The comments of a YAML text, one by one."""
    bare, at = "", 0
    for token in yaml.scan(text, yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken):
            end = token.end_mark
            bare += text[at : token.start_mark.index] + ("x" if end.column else "\n")
            at = end.index
    for line in (bare + text[at:]).splitlines():
        _, mark, remark = f" {line}".replace("\t", " ").partition(" #")
        if mark:
            yield f"#{remark}".rstrip()
