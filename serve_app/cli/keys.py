"""``fingerpost keys``: makes client keys, lists them, and replaces them."""

import argparse
import datetime as dt
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serve_app.access.keys import hashed_key
from serve_app.cli.output import replace_file, say, say_json
from serve_app.config.locations import ConfigError, Problem, read_text
from serve_app.config.references import MissingEnvironmentError, expand, is_file
from serve_app.config.schema.access import HASHED, ClientKey, RequestLimits
from serve_app.config.yaml_keys import add_key, replace_key
from serve_app.domain import Json
from serve_app.snapshot import Snapshot, compile_snapshot

KEY_BYTES: Final = 32
"""Random bytes of a key, so that it can't be guessed."""

_PREFIX: Final = "fp-"
_LEAST_SECRET: Final = 16
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400}
_LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "concurrent")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost keys``."""
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "action",
        choices=("new", "list", "rotate"),
        help="make a key and write it hashed into the file, list the keys, or replace one",
    )
    parser.add_argument("file", type=Path, help="a gateway.yaml")
    parser.add_argument("name", nargs="?", help="with new and rotate: name of the key")
    parser.add_argument("--team", help="with new: entry of `teams` that the key belongs to")
    parser.add_argument(
        "--allow",
        metavar="LIST",
        help="with new: names that the key may use, with commas between them (default: all)",
    )
    parser.add_argument(
        "--budget", type=float, metavar="USD", help="with new: budget in US dollars"
    )
    parser.add_argument(
        "--window",
        choices=("day", "week", "month"),
        default="month",
        help="with --budget: length of its window (default: %(default)s)",
    )
    for name in _LIMITS:
        option = f"--{name.replace('_', '-')}"
        what = "requests at once" if name == "concurrent" else name.replace("_per_", " per ")
        parser.add_argument(
            option, dest=name, type=int, metavar="N", help=f"with new: maximum {what}"
        )
    parser.add_argument(
        "--grace",
        default="24h",
        metavar="TIME",
        help="with rotate: how long the old key stays valid, such as 30m, 24h or 7d; 0: not at all "
        "(default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="with list: print the keys as JSON")


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost keys``."""
    file: Path = arguments.file
    if arguments.action == "list":
        _list(compile_snapshot(file), as_json=arguments.json)
        return True
    if arguments.name is None:
        arguments.usage_error(f"{arguments.action} needs the name of a key")
    if arguments.action == "new":
        _new(file, arguments)
    else:
        _rotate(file, arguments.name, _grace_s(arguments))
    return True


def _new(file: Path, arguments: argparse.Namespace) -> None:
    """Writes a new key, hashed, and prints it. Raises ConfigError."""
    text, snapshot = read_text(file), compile_snapshot(file)
    key, stored = _made(snapshot, file)
    limits = {name: getattr(arguments, name) for name in _LIMITS}
    limits = {name: value for name, value in limits.items() if value is not None}
    entry: dict[str, Json] = {"name": arguments.name, "key": stored}
    if arguments.team:
        entry["team"] = arguments.team
    if arguments.allow:
        entry["allow"] = [part.strip() for part in arguments.allow.split(",")]
    if limits:
        entry["limits"] = limits
    if arguments.budget is not None:
        entry["budget"] = {"usd": arguments.budget, "window": arguments.window}
    _write(file, add_key(text, str(file), entry))
    say(
        f"{file}: key {arguments.name!r} written as a hash; this is the only time that it is shown",
        sys.stderr,
    )
    say(key)


def _rotate(file: Path, name: str, grace_s: int) -> None:
    """Replaces a key by a new one, which it prints. Raises ConfigError."""
    text, snapshot = read_text(file), compile_snapshot(file)
    index, entry = _entry_of(snapshot, file, name)
    key, stored = _made(snapshot, file)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=grace_s)
    shown = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    previous: dict[str, Json] | None = None
    if grace_s or entry.previous is not None:
        previous = {"key": _written_key(text, file, index), "until": shown}
    _write(file, replace_key(text, str(file), index, stored, previous))
    old = f"the old one is valid until {shown}" if grace_s else "the old one is not valid any more"
    say(f"{file}: key {name!r} replaced; {old}", sys.stderr)
    say(key)


def _written_key(text: str, file: Path, index: int) -> str:
    """The key of an entry as it is written, with a relative path where the file has one."""
    from serve_app.config.yaml_tree import parse  # noqa: PLC0415 - only to rotate

    values = parse(str(file), text.encode()).values
    return str(values["client_keys"][index]["key"])


def _entry_of(snapshot: Snapshot, file: Path, name: str) -> tuple[int, ClientKey]:
    for index, entry in enumerate(snapshot.config.client_keys or ()):
        if isinstance(entry, ClientKey) and entry.name == name:
            return index, entry
    names = ", ".join(key.name for key in snapshot.config.keyed_clients) or "none has a name"
    message = f"no key is named {name!r}; the keys are: {names}"
    raise ConfigError(str(file), (Problem(0, "client_keys", message),))


def _made(snapshot: Snapshot, file: Path) -> tuple[str, str]:
    """A new key, and the hash to store. Raises ConfigError without the server's secret."""
    try:
        secret = expand(snapshot.config.key_secret, os.environ)
    except MissingEnvironmentError as error:
        message = f"{error}; set it to a random text of the server, such as `openssl rand -hex 32`"
        raise ConfigError(str(file), (Problem(0, "key_secret", message),)) from error
    if len(secret) < _LEAST_SECRET:
        message = f"must have at least {_LEAST_SECRET} characters; use `openssl rand -hex 32`"
        raise ConfigError(str(file), (Problem(0, "key_secret", message),))
    key = _PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, HASHED + hashed_key(key.encode(), secret.encode()).hex()


def _write(file: Path, changed: str) -> None:
    """Replaces the file, unless the gateway would refuse the new one. Raises ConfigError."""
    trial = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        trial.touch(mode=0o600)
        trial.write_bytes(changed.encode())
        compile_snapshot(trial)
    except ConfigError as error:
        raise ConfigError(str(file), error.problems) from error
    except OSError as error:
        problem = Problem(0, "", f"cannot write beside the file: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error
    finally:
        trial.unlink(missing_ok=True)
    replace_file(file, changed)


def _grace_s(arguments: argparse.Namespace) -> int:
    text: str = arguments.grace
    if text == "0":
        return 0
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        arguments.usage_error("--grace must be a time such as 30m, 24h or 7d, or 0")
    return int(number) * _UNITS[unit]


def _list(snapshot: Snapshot, *, as_json: bool) -> None:
    keys = [_described(entry) for entry in snapshot.config.client_keys or ()]
    if as_json:
        say_json({"keys": keys})
        return
    if not keys:
        say("no client_keys")
    for key in keys:
        facts = [f"{name} {value}" for name, value in key.items() if value and name != "name"]
        say(f"{key['name'] or '(no name)'}: {'; '.join(facts)}")


def _described(entry: str | ClientKey) -> dict[str, Json]:
    """What may be shown of a key: never the key, nor its hash."""
    if not isinstance(entry, ClientKey):
        return {"name": "", "key": _form(entry)}
    previous, budget = entry.previous, entry.budget
    now = dt.datetime.now(dt.UTC).timestamp()
    old = ""
    if previous is not None:
        is_over = previous.expires_at <= now
        old = f"{'expired' if is_over else 'valid until'} {previous.until}"
    return {
        "name": entry.name,
        "key": _form(entry.key),
        "previous key": old,
        "team": entry.team or "",
        "tenant": entry.tenant or "",
        "allow": ", ".join(entry.allow or ()),
        "limits": ", ".join(_limits(entry.limits)),
        "budget": "" if budget is None else f"{budget.usd:g} USD per {budget.window}",
        "metadata": ", ".join(f"{name}={value}" for name, value in entry.metadata.items()),
    }


def _limits(limits: RequestLimits | None) -> Iterator[str]:
    for name in _LIMITS if limits is not None else ():
        value = getattr(limits, name)
        if value is not None:
            yield f"{name} {value}"


def _form(text: str) -> str:
    if text.startswith(HASHED):
        return "hashed"
    if is_file(text):
        return "in a file"
    return text if text.startswith("$") else "in the configuration itself"
