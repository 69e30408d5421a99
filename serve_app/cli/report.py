"""``fingerpost report``: what the logs of a gateway say of its traffic."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from serve_app.cli.output import say, say_json
from serve_app.config.load import load, raise_problems
from serve_app.config.locations import ConfigError, Problem
from serve_app.evaluation.traffic.charts import as_svg_file, charts
from serve_app.evaluation.traffic.entries import (
    DecisionEntry,
    EntryFilter,
    WrongLineError,
    read_entry,
)
from serve_app.evaluation.traffic.html_report import as_html
from serve_app.evaluation.traffic.json_report import traffic_json
from serve_app.evaluation.traffic.labels import Labels
from serve_app.evaluation.traffic.log_files import STDIN, Damage, read_lines
from serve_app.evaluation.traffic.tables import overview, report_tables
from serve_app.evaluation.traffic.totals import Traffic
from serve_app.packaged_files import find_packaged
from serve_app.telemetry.log_lines import time_text

_CASES: Final = 200
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PRIVATE: Final = 0o600
"""Mode of a file with texts of conversations."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost report``."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="*",
        help="access logs and decision logs, also rotated and compressed with gzip; - is standard input",
    )
    parser.add_argument(
        "--config", type=Path, help="gateway.yaml whose logs are read, rotated ones included"
    )
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="first time that counts, UTC: 2026-01-31, 2026-01-31T12:00, or 24h and 7d for that long ago",
    )
    parser.add_argument(
        "--until",
        type=_moment,
        metavar="TIME",
        help="first time that does not count any more, in the same form",
    )
    for name in ("client", "team", "route"):
        parser.add_argument(
            f"--{name}", action="append", default=[], help=f"count this {name} only; repeatable"
        )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write the report as one page with charts"
    )
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write the charts as SVG files")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="write decisions as a labelled set for you to correct; needs logs.decisions.texts",
    )
    parser.add_argument(
        "--cases",
        type=int,
        default=_CASES,
        metavar="N",
        help="maximum number of cases in --labels (default: %(default)s)",
    )
    parser.add_argument(
        "--unsure",
        action="store_true",
        help="with --labels: the closest calls first, instead of a fair sample",
    )


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost report``. Raises ConfigError if there is nothing to report."""
    files = _files(arguments)
    traffic, damage = Traffic(), [Damage(str(file)) for file in files]
    labels = None
    if arguments.labels is not None:
        labels = Labels(max(arguments.cases, 1), unsure=arguments.unsure)
    chosen = EntryFilter(
        arguments.since or "",
        arguments.until or "",
        arguments.client,
        arguments.team,
        arguments.route,
    )
    left_out = 0
    for file, one in zip(files, damage, strict=True):
        left_out += _read(file, one, chosen, traffic, labels)
    damage = [one for one in damage if one.lines or one.end]
    if traffic.is_empty:
        raise ConfigError(", ".join(map(str, files)), tuple(_nothing(left_out, damage)))
    _write_files(arguments, traffic, damage)
    if labels is not None:
        _write_labels(arguments.labels, labels)
    if arguments.json:
        say_json(traffic_json(traffic, damage))
    else:
        lines = overview(traffic)
        for table in report_tables(traffic):
            lines += table.as_text()
        say("\n".join(lines))
    for one in damage:
        say(f"warning: {one}", sys.stderr)
    return True


def _read(
    file: Path, damage: Damage, chosen: EntryFilter, traffic: Traffic, labels: Labels | None
) -> int:
    """Adds the lines of a file. Returns how many are left out by the options."""
    left_out = 0
    for number, fields in read_lines(file, damage):
        try:
            entry = read_entry(fields)
        except WrongLineError:
            damage.add(number)
            continue
        if entry is None:
            if labels is not None:
                labels.add_routes(fields)
        elif not chosen.takes(entry):
            left_out += 1
        else:
            traffic.add(entry)
            if labels is not None and isinstance(entry, DecisionEntry):
                labels.add(fields, entry)
    return left_out


def _files(arguments: argparse.Namespace) -> list[Path]:
    """The files to read, each once. Raises ConfigError if there are none."""
    files: list[Path] = list(arguments.file)
    if arguments.config is not None:
        files += _configured(find_packaged(arguments.config))
    if not files:
        message = "name the logs, or the gateway.yaml that writes them with --config"
        raise ConfigError("the command line", (Problem(0, "file", message),))
    unique = {file if file == STDIN else file.resolve(): file for file in files}
    return list(unique.values())


def _configured(config: Path) -> Iterator[Path]:
    """The logs of a configuration that exist, oldest first."""
    loaded = load(config)
    raise_problems(loaded, ())
    targets = [Path(section.file) for _, section in loaded.config.logs if section.file]
    if not targets:
        message = "no log is written to a file; set logs.access.to or logs.decisions.to"
        raise ConfigError(str(config), (Problem(0, "logs", message),))
    found = [file for target in targets for file in _rotated(target)]
    if not found:
        message = f"no file yet: {', '.join(map(str, targets))}; send requests first"
        raise ConfigError(str(config), (Problem(0, "logs", message),))
    yield from found


def _rotated(target: Path) -> list[Path]:
    """A log and its rotated files, oldest first."""
    pattern = re.compile(re.escape(target.name) + r"\.(\d+)(?:\.gz)?")
    numbered = []
    if target.parent.is_dir():
        for file in target.parent.iterdir():
            matched = pattern.fullmatch(file.name)
            if matched is not None:
                numbered.append((-int(matched[1]), file))
    current = [target] if target.exists() else []
    return [*(file for _, file in sorted(numbered)), *current]


def _nothing(left_out: int, damage: Sequence[Damage]) -> Iterator[Problem]:
    if left_out:
        yield Problem(0, "", f"the options leave out all {left_out} lines; choose others")
    elif not damage:
        message = "no line of a log; set logs.access.to and send requests, or name other files"
        yield Problem(0, "", message)
    for one in damage:
        yield Problem(0, "", str(one))


def _moment(text: str) -> str:
    """A time of the command line in the form of the logs."""
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if ago is not None:
        before = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return time_text((datetime.now(UTC) - before).timestamp())
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"must be a time such as 2026-01-31 or 24h, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return time_text(moment.timestamp())


def _write_files(arguments: argparse.Namespace, traffic: Traffic, damage: Sequence[Damage]) -> None:
    if arguments.html is not None:
        _write(arguments.html, as_html(traffic, [str(one) for one in damage]), "--html")
    if arguments.plot is not None:
        for name, chart in charts(traffic).items():
            _write(arguments.plot / f"{name}.svg", as_svg_file(chart), "--plot")


def _write_labels(file: Path, labels: Labels) -> None:
    made = labels.as_set()
    if made is None:
        message = "no decision with texts; set logs.decisions.texts to true, and send requests"
        raise ConfigError(str(file), (Problem(0, "--labels", message),))
    _write(file, made.text.encode("utf-8", "replace"), "--labels", mode=_PRIVATE)
    others = f"; {made.others} decisions about other routes are left out" if made.others else ""
    say(
        f"{file}: {made.cases} cases, expect is what was decided{others}; correct it, then run "
        "`fingerpost eval` and `fingerpost tune` with it",
        sys.stderr,
    )


def _write(file: Path, content: bytes, option: str, *, mode: int = 0o666) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as output:
            output.write(content)
    except OSError as error:
        problem = Problem(0, option, f"cannot write the file: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error
