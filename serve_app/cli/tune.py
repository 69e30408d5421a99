"""``fingerpost tune``: learns a read-out for the embedded engine from labelled conversations."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tqdm import tqdm

from serve_app.cli.output import say
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.embedding.tuned import model_hash
from serve_app.evaluation.labelled_set import Case, LabelledSet, read_set
from serve_app.evaluation.tuning import LEAST, gather, learn
from serve_app.evaluation.tuning_report import refusal, tuning_text
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot, compile_snapshot

DEFAULT_FILE: Final = Path("tuned.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost tune``."""
    parser.add_argument(
        "file", type=Path, help="labelled set: JSON lines, routes first, then conversations"
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="gateway.yaml with the routes and the engine (default: the routes of the set)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=DEFAULT_FILE,
        metavar="FILE",
        help="file for orchestrator.tuned (default: %(default)s)",
    )


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost tune``; False if what was learned is not better by more than chance."""
    section, labelled = OrchestratorSection(), read_set(arguments.file)
    labelled.check_labels()
    if arguments.config is not None:
        config = find_packaged(arguments.config)
        snapshot = compile_snapshot(config)
        section = snapshot.config.orchestrator
        _check_engine(str(config), section)
        labelled = _with_configured_routes(labelled, snapshot, str(config))
    settings = replace(EmbeddingSettings.from_section(section), reranker=None, tuned=None)
    material = gather(labelled, settings, EmbeddingEngine(settings), _bar)
    if len(material.labels) < LEAST:
        message = f"{len(material.labels)} conversations can be used; add at least {LEAST}"
        raise ConfigError(labelled.file, (Problem(0, "", message),))
    tuning = learn(material, model_hash(section) or "")
    say("\n".join(tuning_text(material, tuning)))
    if not tuning.is_better:
        say(refusal(tuning), sys.stderr)
        return False
    try:
        arguments.output.write_text(tuning.file.as_text(), "utf-8")
    except OSError as error:
        problem = Problem(0, "--output", f"cannot write the file: {error.strerror}")
        raise ConfigError(str(arguments.output), (problem,)) from error
    say(f"written to {arguments.output}; name it in orchestrator.tuned")
    return True


def _check_engine(config: str, section: OrchestratorSection) -> None:
    """Raises ConfigError for an engine that cannot be tuned."""
    if section.engine != "embedding":
        message = f"engine {section.engine} cannot be tuned; only the embedded engine can"
        raise ConfigError(config, (Problem(0, "orchestrator.engine", message),))
    if section.calibration is not None:
        message = (
            "it was made without what would be learned here; remove it, tune, and calibrate again "
            "with `tuned:` set"
        )
        raise ConfigError(config, (Problem(0, "orchestrator.calibration", message),))


def _with_configured_routes(labelled: LabelledSet, snapshot: Snapshot, config: str) -> LabelledSet:
    """The set with the routes of a configuration. Raises ConfigError if it has others."""
    policy = snapshot.policy
    known = {route.name for route in policy.routes}
    if not known:
        problem = Problem(0, "routing_preferences", "no routes; add one with its models")
        raise ConfigError(config, (problem,))
    others = [route.name for route in labelled.routes if route.name not in known]
    if others:
        message = f"no route of this name in {config}; rename it, or add the route there"
        raise ConfigError(
            labelled.file, tuple(Problem(1, f"routes {name!r}", message) for name in others)
        )
    return replace(labelled, routes=policy.routes, no_route_examples=policy.no_route_examples)


def _bar(cases: Sequence[Case]) -> Iterable[Case]:
    """Shows a progress bar on a terminal."""
    bar: Iterable[Case] = tqdm(cases, unit="case", disable=None, leave=False)
    return bar
