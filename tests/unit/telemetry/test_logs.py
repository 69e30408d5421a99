"""Lines of the access log and of the decision log, and what opens both."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from serve_app.config.schema.logs import AccessLogSection, DecisionLogSection, Logs
from serve_app.domain import Reason, Scores, Unavailable
from serve_app.telemetry.access_log import access_line
from serve_app.telemetry.logs import OpenLogs
from serve_app.telemetry.metrics import Metric
from serve_app.telemetry.record import CLIENT_GONE, RequestRecord
from tests.unit.fakes import FakeMeter
from tests.unit.telemetry.log_records import ROUTES, SECRET_TEXT, question, record


def write_decisions(folder: Path, *records: RequestRecord, **section: Any) -> list[dict[str, Any]]:
    """The lines of a decision log about these requests."""
    file = folder / "decisions.jsonl"
    logs = OpenLogs(Logs(decisions=DecisionLogSection(to=str(file), **section)), FakeMeter())
    for one in records:
        for observer in logs.observers:
            observer.ended(one)
    logs.close()
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_access_line_has_everything_of_a_request() -> None:
    """Times are in milliseconds, and tokens in classes that do not overlap."""
    assert json.loads(access_line(record(), "r1")) == {
        "log": "access",
        "at": "2026-09-21T14:13:20.123Z",
        "id": "request-1",
        "client": "ada",
        "team": "blue",
        "surface": "chat",
        "asked": "auto",
        "stream": True,
        "status": 200,
        "error": None,
        "model": "openai/gpt-4o",
        "provider": "openai",
        "reason": "failover",
        "route": "code",
        "confidence": 0.9877,
        "tier": "embedding",
        "rule": None,
        "candidates": ["vllm/llama", "openai/gpt-4o"],
        "tried": [
            {
                "provider": "vllm",
                "model": "vllm/llama",
                "outcome": "connect",
                "began_ms": 1.0,
                "ms": 10.0,
            },
            {
                "provider": "openai",
                "model": "openai/gpt-4o",
                "outcome": "ok",
                "began_ms": 11.0,
                "ms": 389.0,
            },
        ],
        "ms": {
            "decide": 1.0,
            "first_token": 400.0,
            "total": 1500.0,
            "overhead": 2.0,
            "queued": None,
        },
        "tokens": {"input": 100, "cache_read": 20, "cache_write": 3, "output": 40},
        "tokens_estimated": False,
        "usd": 0.00125,
        "baseline_usd": 0.0025,
        "session": "hit",
        "session_hash": "abc",
        "policy": "0123456789ab",
        "trace": "00-1-2-01",
        "replica": "r1",
    }


def test_access_line_of_a_client_that_left_early_is_valid() -> None:
    """Nothing is known of it but its name; a cost that is unknown is null, not 0."""
    gone = RequestRecord("chat", None, error_type=CLIENT_GONE, id="x", at=1.0, client="ada")
    fields = json.loads(access_line(gone, ""))
    assert (fields["status"], fields["error"], fields["usd"]) == (None, "client_gone", None)
    assert fields["at"] == "1970-01-01T00:00:01.000Z"


@pytest.mark.parametrize("text", ['"}\n{"log":"access', "\r\n", "\u2028\u2029\x85\x0b", "\x1b[31m"])
def test_client_cannot_write_a_line_of_its_own(text: str) -> None:
    """A line break of any kind, a quote or an escape sequence of a terminal stays in its string."""
    line = access_line(record(asked=text, client=text, error_type=text), text)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line.decode("ascii").splitlines()) == 1
    assert b"\x1b" not in line
    fields = json.loads(line)
    assert (fields["asked"], fields["client"], fields["replica"]) == (text, text, text)


def test_names_of_clients_are_cut() -> None:
    """A line is bounded, whatever a client names; half a character is not a fault."""
    odd = record(asked="a" * 9999, trace="\ud800" * 9999, id="\ud800" * 9999)
    fields = json.loads(access_line(odd, ""))
    assert len(fields["asked"]) == len(fields["trace"]) == len(fields["id"]) == 400


def test_logs_have_no_text_of_a_conversation_by_default(tmp_path: Path) -> None:
    """Neither of the user nor of the examples; its length is there."""
    assert SECRET_TEXT.encode() not in access_line(record(), "")
    head, line = write_decisions(tmp_path, record())
    whole = json.dumps([head, line])
    assert SECRET_TEXT not in whole
    assert "why does it loop" not in whole
    assert (line["turns"], line["characters"]) == (1, len(SECRET_TEXT))
    assert "messages" not in line
    assert "expect" not in line


def test_decision_line_has_scores_and_what_they_led_to(tmp_path: Path) -> None:
    """The first line has the routes, which the others name by ``set``."""
    head, line = write_decisions(tmp_path, record(), texts=True)
    assert head["routes"][0] == {
        "name": "code",
        "description": "writing and debugging code",
        "examples": ["why does it loop?"],
    }
    assert line == {
        "log": "decision",
        "at": "2026-09-21T14:13:20.123Z",
        "id": "request-1",
        "client": "ada",
        "team": "blue",
        "route": "code",
        "reason": "failover",
        "model": "vllm/llama",
        "tier": "embedding",
        "set": head["set"],
        "policy": "0123456789ab",
        "session_hash": "abc",
        "turns": 1,
        "characters": 22,
        "confidence": 0.9877,
        "none": 0.01,
        "threshold": 0.2,
        "margin": 0.0,
        "winner": "code",
        "matched": True,
        "scores": {"code": 0.9877, "travel": 0.0023},
        "cached": False,
        "unreadable": False,
        "stand_in": None,
        "fell_back": None,
        "messages": [{"role": "user", "content": SECRET_TEXT}],
        "expect": "code",
    }


def test_changed_routes_are_written_again(tmp_path: Path) -> None:
    """Once, and each decision names its own."""
    other = record(question=question(routes=ROUTES[:1]))
    lines = write_decisions(tmp_path, record(), record(), other, other, record())
    kinds = ["routes" in line for line in lines]
    assert kinds == [True, False, False, True, False, False, True, False]
    sets = [line["set"] for line in lines]
    assert sets[0] == sets[1] == sets[2] == sets[6] == sets[7]
    assert sets[3] == sets[4] == sets[5] != sets[0]


def test_each_rotated_file_begins_with_the_routes(tmp_path: Path) -> None:
    """So each is a set of its own; the mode keeps other users out."""
    many = [record(question=question(SECRET_TEXT * 9000)) for _ in range(12)]
    write_decisions(tmp_path, *many, texts=True, max_megabytes=1, files=3)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["decisions.jsonl", "decisions.jsonl.1", "decisions.jsonl.2"]  # fmt: skip
    for file in files:
        assert "routes" in json.loads(file.read_text().partition("\n")[0])
        assert file.stat().st_size <= 1.3 * 2**20
        assert file.stat().st_mode & 0o777 == 0o600


def test_routes_of_a_request_are_not_written_by_default(tmp_path: Path) -> None:
    """Their names are the client's own texts; such a line is not a case of a set."""
    inline = record(question=question(is_inline=True))
    (line,) = write_decisions(tmp_path, inline)
    assert (line["set"], line["scores"], line["winner"], line["matched"]) == (
        None,
        None,
        None,
        True,
    )
    (tmp_path / "decisions.jsonl").unlink()
    (line,) = write_decisions(tmp_path, inline, texts=True)
    assert line["winner"] == "code"
    assert "messages" not in line


def test_unavailable_orchestrator_is_a_line(tmp_path: Path) -> None:
    """It has the reason instead of scores."""
    away = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "too slow: secret")
    _, line = write_decisions(tmp_path, record(scores=away), texts=True)
    assert line["unavailable"] == "orchestrator_timeout"
    assert "confidence" not in line
    assert "messages" not in line


def test_scores_that_are_not_numbers_leave_valid_lines(tmp_path: Path) -> None:
    """JSON has neither NaN nor infinity."""
    odd = Scores({"code": float("nan"), "travel": float("inf")}, 0.2, None)
    _, line = write_decisions(tmp_path, record(scores=odd, confidence=float("nan")))
    assert line["scores"] == {"code": None, "travel": None}


def test_requests_without_a_decision_are_not_in_the_decision_log(tmp_path: Path) -> None:
    """Nor are those that only ask what would be decided."""
    lines = write_decisions(
        tmp_path, record(question=None), record(surface="route"), record(id="counts")
    )
    assert [line.get("id") for line in lines] == [None, "counts"]


def test_sample_is_a_share_of_the_ids(tmp_path: Path) -> None:
    """The same ids are in the sample of every replica."""
    some = [record(id=f"request-{number}") for number in range(2000)]
    first = write_decisions(tmp_path, *some, sample=0.1)
    (tmp_path / "decisions.jsonl").unlink()
    assert write_decisions(tmp_path, *some, sample=0.1) == first
    assert 150 < len(first) < 250


def test_lost_lines_are_counted() -> None:
    """Once each, when the next request ends; the requests go on."""
    meter = FakeMeter()
    logs = OpenLogs(Logs(access=AccessLogSection(to="/dev/full")), meter)
    lost = (Metric.LOST_LINES, ("access",))
    for _ in range(3):
        for observer in logs.observers:
            observer.ended(record())
    logs.close()
    assert lost not in meter.amounts
    for _ in range(2):
        logs.observers[-1].ended(record())
    assert meter.amounts[lost] == 3


def test_logs_that_are_off_cost_nothing() -> None:
    """There is neither an observer nor a thread."""
    logs = OpenLogs(Logs(), FakeMeter())
    assert logs.observers == ()
    logs.close()


def test_standard_error_gets_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever else the process writes there."""
    logs = OpenLogs(Logs(access=AccessLogSection(to="stderr")), FakeMeter(), "r1")
    for observer in logs.observers:
        observer.ended(record())
    os.write(2, b"something else\n")
    logs.close()
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == sorted(["something else", access_line(record(), "r1").decode().strip()])
