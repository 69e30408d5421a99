"""Rewrites an older file of Plano in the format of v0.4.0, and keeps its comments."""

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
    """A file in the format of v0.4.0."""

    text: str
    changes: tuple[str, ...]
    """One line for each; empty if the file has this format already."""
    warnings: tuple[str, ...]
    """What of the file is ignored, and which comments are lost."""


def migrate(text: str, file: str) -> Migrated:
    """The same configuration in the format of v0.4.0; a file in this format is not changed.

    Raises ConfigError for a text that is not a configuration, or whose older parts are invalid.
    Other problems stay in it.
    """
    tree = parse(file, text.encode("utf-8", "surrogatepass"))
    form = upgrade(tree.values)
    problems = [problem_at(tree.lines, *problem) for problem in form.problems]
    problems += tree.problems
    if problems:
        raise ConfigError(file, tuple(sorted(problems, key=lambda problem: problem.line)))
    if _same(tree.values, form.values):
        return Migrated(text, (), ())

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
    warnings = [*form.ignored, *(f"comment {remark!r} is lost; add it again" for remark in lost)]
    changes = tuple(_changes(tree.values, form))
    return Migrated(new.replace("\n", newline), changes, tuple(warnings))


def _refusal(file: str) -> ConfigError:
    message = "cannot be rewritten with anchors and <<; write their values out first"
    return ConfigError(file, (Problem(0, "", message),))


def _same(one: Json, other: Json) -> bool:
    """Compares YAML values; NaN equals NaN."""
    return json.dumps(one, default=repr, sort_keys=True) == json.dumps(
        other, default=repr, sort_keys=True
    )


def _changes(values: Mapping[str, Json], form: Upgraded) -> Iterator[str]:
    if "version" not in values:
        yield f"version: {form.values.get('version')} added"
    elif values["version"] != form.values.get("version"):
        yield f"version: changed from {values.get('version')} to {form.values.get('version')}"
    if "llm_providers" in values:
        yield "llm_providers: renamed to model_providers"
    if isinstance(values.get("listeners"), dict):
        yield "listeners: converted to a list"
    for location, origin in form.origins.items():
        if location[0] == "routing_preferences" and len(location) == 2:  # noqa: PLR2004 - an entry
            yield f"{path_text(origin)}: moved to {path_text(location)}"


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
