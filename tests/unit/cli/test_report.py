"""``fingerpost report``: files, options and outputs."""

import gzip
import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from serve_app.cli.main import main
from serve_app.config.locations import ConfigError
from serve_app.domain import Scores
from serve_app.evaluation.labelled_set import read_set
from serve_app.telemetry.access_log import access_line
from serve_app.telemetry.decision_log import decision_fields, head_of
from serve_app.telemetry.log_lines import line_of
from tests.unit.config_texts import ONE_MODEL
from tests.unit.telemetry.log_records import AT, ROUTES, question, record

HEAD: Final = head_of(ROUTES, ("hi",), texts=True)
SET: Final = json.loads(HEAD)["set"]

Run = Callable[..., tuple[int, str, str]]
"""A command's exit status, and what it wrote to both outputs."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: object) -> tuple[int, str, str]:
        status = main(["report", *map(str, arguments)])
        return status, *capsys.readouterr()

    return command


def case(text: str, *, code: float = 0.9, **changes: Any) -> bytes:
    """A line of a decision log with its text."""
    scores = Scores({"code": code, "travel": 0.05}, 0.2, "code", none=0.05)
    made = record(scores=scores, question=question(text), **changes)
    assert made.question is not None
    return line_of(decision_fields(made, made.question, SET, texts=True))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder with a rotated, a compressed and a current access log, and a decision log."""
    (tmp_path / "access.jsonl").write_bytes(access_line(record(), "r") * 3)
    (tmp_path / "access.jsonl.1").write_bytes(access_line(record(client="bob"), "r") * 4)
    with gzip.open(tmp_path / "access.jsonl.2.gz", "wb") as file:
        file.write(access_line(record(at=AT - 86_400, team=""), "r") * 5)
    (tmp_path / "decisions.jsonl").write_bytes(HEAD + case("why?") + case("how?") * 2)
    return tmp_path


def test_report_reads_all_files_of_both_logs(run: Run, logs: Path) -> None:
    """Rotated, compressed, and each once."""
    status, out, err = run(*logs.iterdir(), logs / "access.jsonl", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["requests"]["requests"] == 12
    assert found["decisions"]["decisions"] == 3
    assert found["damaged"] == []


def test_configuration_names_its_logs(run: Run, logs: Path) -> None:
    """With their rotated files; files that only look like them are not read."""
    config = logs / "gateway.yaml"
    config.write_text(ONE_MODEL + "logs: {access: {to: access.jsonl}, decisions: {to: d.jsonl}}\n")
    (logs / "access.jsonl.bak").write_text("{}")
    status, out, _ = run("--config", config, "--json")
    assert status == 0
    assert json.loads(out)["requests"]["requests"] == 12


def test_report_is_text_by_default(run: Run, logs: Path) -> None:
    """The most important figures are first, then the tables."""
    status, out, err = run(*sorted(logs.iterdir()))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:7] == [
        "requests   12 from 2026-09-20T14:13:20 to 2026-09-21T14:13:20 UTC",
        "failed     0 (0.0%); 0 left by their clients",
        "fallbacks  12 with several attempts: 12 answered by another model, 0 failed all the same",
        "cost       0.0150 USD; answers with a price 12, with tokens and without a price 0",
        "saved      0.0150 USD (50.0%) against the baseline model; answers with both prices 12",
        "tokens     1,476 in, 16.3% of them read from a cache; 480 out",
        "sessions   1; requests in sessions 12, 100.0% of them bound to a model",
    ]
    assert lines[7].startswith("decisions  3, 100.0% match a route, 0.0% from the cache, 0 close")
    titles = [line for line in lines if line and not line.startswith(" ")][8:]
    assert titles == [
        "By day",
        "By model",
        "By route",
        "By client",
        "By team",
        "Why the model",
        "Latency, within 1 %",
        "Failures of providers",
        "Decisions by content",
        "Probability of the best route",
    ]
    assert re.search(
        r"^  bob +4 +0 +492 +16\.3% +160 +0\.0050 +0 +0\.0050 +1,[45]\d\d", out, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        (["--since", "2026-09-21"], 7),
        (["--until", "2026-09-21"], 5),
        (["--since", "2026-09-20T14:13", "--until", "2026-09-20T16:13:21+01:00"], 5),
        (["--client", "bob"], 4),
        (["--client", "bob", "--client", "ada"], 12),
        (["--team", "blue", "--route", "code"], 7),
    ],
)
def test_options_choose_lines(run: Run, logs: Path, options: list[str], requests: int) -> None:
    """By time, client, team and route."""
    status, out, _ = run(*logs.glob("access*"), *options, "--json")
    assert status == 0
    assert json.loads(out)["requests"]["requests"] == requests


def test_times_may_be_relative(run: Run, tmp_path: Path) -> None:
    """In minutes, hours, days and weeks before now."""
    log, now = tmp_path / "log", time.time()
    hours = (0.5, 2, 30, 24 * 8)
    log.write_bytes(b"".join(access_line(record(at=now - 3600 * ago), "") for ago in hours))
    for option, requests in (("90m", 1), ("24h", 2), ("7d", 3), ("2w", 4)):
        assert json.loads(run(log, "--since", option, "--json")[1])["requests"]["requests"] == requests  # fmt: skip
    assert json.loads(run(log, "--until", "24h", "--json")[1])["requests"]["requests"] == 2


def test_damaged_lines_are_counted_and_named(run: Run, logs: Path) -> None:
    """Half a line, another program's line, JSON of another form; the rest counts."""
    good = access_line(record(), "r")
    with (logs / "access.jsonl").open("ab") as file:
        file.write(good[:50] + b"\n\n\xff\xfe\n[1]\n{}\n" + b'{"log":"access","at":1}\n' + good)
        file.write(b"\x1b[36m(ServeReplica:fingerpost:Ingress pid=1)\x1b[0m " + good + good[:9])
    status, out, err = run(logs / "access.jsonl", "--json")
    assert status == 0
    assert err == f"warning: {logs}/access.jsonl: 6 lines are not a line of a log (4, 6, 7, 8, 9, ...)\n"  # fmt: skip
    found = json.loads(out)
    assert found["requests"]["requests"] == 5
    assert found["damaged"][0]["lines"] == 6


def test_compressed_file_that_was_cut_is_read_as_far_as_it_goes(run: Run, logs: Path) -> None:
    """The end is named."""
    random = "".join(access_line(record(id=str(n)), "r").decode() for n in range(3000))
    packed = gzip.compress(random.encode())
    (logs / "cut.gz").write_bytes(packed[: len(packed) // 2])
    status, out, err = run(logs / "cut.gz", "--json")
    assert status == 0
    assert 500 < json.loads(out)["requests"]["requests"] < 3000
    assert "cut.gz: the rest cannot be read: Compressed file ended before" in err


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", [], "no line of a log; set logs.access.to and send requests, or name other files"),
        (b"hello\n", [], "1 line is not a line of a log (1)"),
        (None, [], "cannot read the file: No such file or directory"),
        (access_line(record(), ""), ["--client", "x"], "the options leave out all 1 lines"),
    ],
)
def test_nothing_to_report_is_a_failure(
    run: Run, tmp_path: Path, content: bytes | None, options: list[str], message: str
) -> None:
    """With the reason, and without a traceback."""
    file = tmp_path / "log"
    if content is not None:
        file.write_bytes(content)
    status, out, err = run(file, *options)
    assert (status, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_command_without_files_says_what_to_name(run: Run, tmp_path: Path) -> None:
    """As does one whose configuration writes no log, or none yet."""
    assert "name the logs, or the gateway.yaml" in run()[2]
    config = tmp_path / "gateway.yaml"
    config.write_text(ONE_MODEL)
    assert "set logs.access.to or logs.decisions.to" in run("--config", config)[2]
    config.write_text(ONE_MODEL + "logs: {access: {to: 5}}\n")
    assert "line 4: logs.access.to: " in run("--config", config)[2]
    config.write_text(ONE_MODEL + "logs: {access: {to: a.jsonl}}\n")
    assert f"no file yet: {tmp_path}/a.jsonl; send requests first" in run("--config", config)[2]


def test_wrong_time_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With an example of a right one."""
    with pytest.raises(SystemExit) as caught:
        main(["report", "x", "--since", "yesterday"])
    assert caught.value.code == 2
    assert "must be a time such as 2026-01-31 or 24h, not 'yesterday'" in capsys.readouterr().err


def test_standard_input_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a log that comes through a pipe."""
    text = io.TextIOWrapper(io.BytesIO(access_line(record(), "r") * 2))
    monkeypatch.setattr(sys, "stdin", text)
    status, out, _ = run("-", "--json")
    assert (status, json.loads(out)["requests"]["requests"]) == (0, 2)


def test_charts_are_files_of_svg(run: Run, logs: Path) -> None:
    """Each has a title, and names of clients are texts in it."""
    odd = "<script>alert(1)</script>\x00\x1b"
    (logs / "access.jsonl").write_bytes(access_line(record(client=odd), "r"))
    assert run(*logs.glob("*.jsonl*"), "--plot", logs / "charts")[0] == 0
    names = {file.stem for file in (logs / "charts").iterdir()}
    assert {"requests", "cost", "latency", "failures", "requests_by_client", "probability"} <= names
    for file in (logs / "charts").iterdir():
        root = ET.fromstring(file.read_bytes())  # noqa: S314 - ours
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
    text = (logs / "charts" / "requests_by_client.svg").read_text("utf-8")
    assert "<script" not in text


def test_page_is_one_file_without_scripts(run: Run, logs: Path) -> None:
    """It loads nothing, and what clients wrote is text in it."""
    odd = "<img src=x onerror=alert(1)>\x00\ud800"
    (logs / "access.jsonl").write_bytes(access_line(record(client=odd), "r"))
    (logs / "broken").write_text("{}")
    page = logs / "pages" / "report.html"
    assert run(*logs.glob("*.jsonl*"), logs / "broken", "--html", page)[0] == 0
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>\n")
    assert "default-src 'none'" in text
    assert text.count("<svg") > 5
    assert "By client" in text
    assert "1 line is not a line of a log" in text
    assert "&lt;img src=x onerror=alert(1)&gt;??" in text
    for tag in ("<script", "<img", "<link", "\x00"):
        assert tag not in text
    assert not re.search(r'(src|href)="http', text)


def test_file_that_cannot_be_written_is_a_failure(run: Run, logs: Path) -> None:
    """With its option."""
    (logs / "file").write_text("")
    for option in ("--html", "--plot", "--labels"):
        status, _, err = run(*logs.glob("*.jsonl"), option, logs / "file" / "below")
        assert status == 1
        assert f"{option}: cannot write the file: " in err


def test_labels_are_a_set_with_each_conversation_once(run: Run, logs: Path) -> None:
    """The routes come with their examples; other users cannot read it."""
    mine = logs / "mine.jsonl"
    status, _, err = run(logs / "decisions.jsonl", "--labels", mine)
    assert status == 0
    assert err == (
        f"{mine}: 2 cases, expect is what was decided; correct it, then run "
        "`fingerpost eval` and `fingerpost tune` with it\n"
    )
    made = read_set(mine)
    assert [route.name for route in made.routes] == ["code", "travel"]
    assert made.routes[0].examples == ("why does it loop?",)
    assert made.no_route_examples == ("hi",)
    assert sorted(one.turns[0].text for one in made.cases) == ["how?", "why?"]
    assert {one.expect for one in made.cases} == {"code"}
    assert made.decided_cases == 0
    assert mine.stat().st_mode & 0o777 == 0o600
    decided = json.loads(mine.read_text().splitlines()[1])["decided"]
    assert decided == {"route": "code", "confidence": 0.9, "at": "2026-09-21T14:13:20.123Z"}


def test_labels_are_bounded_and_may_be_the_closest_calls(run: Run, logs: Path) -> None:
    """A sample is fair and the same each time; with ``--unsure`` the least sure come first."""
    lines = [case(f"text {n}", code=0.1 + n / 1000) for n in range(300)]
    log, mine = logs / "many.jsonl", logs / "mine.jsonl"
    log.write_bytes(HEAD + b"".join(lines))

    def texts(*options: str) -> list[str]:
        assert run(log, "--labels", mine, *options)[0] == 0
        return [one.turns[0].text for one in read_set(mine).cases]

    assert texts("--cases", "3", "--unsure") == ["text 0", "text 1", "text 2"]
    sample = texts("--cases", "50")
    assert sample == texts("--cases", "50")
    numbers = [int(text.split()[1]) for text in sample]
    assert len(set(numbers)) == 50
    assert 100 < sum(numbers) / 50 < 200
    log.write_bytes(HEAD + b"".join(reversed(lines)))
    assert texts("--cases", "50") == sample


def test_labels_are_of_the_newest_routes(run: Run, logs: Path) -> None:
    """Decisions about others are counted; a log without texts cannot be labelled."""
    newer = head_of(ROUTES[:1], (), texts=True)
    name = json.loads(newer)["set"]
    made = record(at=AT + 9, question=question("newer", routes=ROUTES[:1]))
    assert made.question is not None
    line = line_of(decision_fields(made, made.question, name, texts=True))
    (logs / "decisions.jsonl").write_bytes(HEAD + case("old") * 4 + newer + line + HEAD)
    status, _, err = run(logs / "decisions.jsonl", "--labels", logs / "mine.jsonl")
    assert status == 0
    assert "1 cases, expect is what was decided; 4 decisions about other routes are left out" in err
    (only,) = read_set(logs / "mine.jsonl").cases
    assert only.turns[0].text == "newer"

    hidden = line_of(decision_fields(made, made.question, name, texts=False))
    (logs / "decisions.jsonl").write_bytes(newer + hidden)
    status, _, err = run(logs / "decisions.jsonl", "--labels", logs / "mine.jsonl")
    assert status == 1
    assert "no decision with texts; set logs.decisions.texts to true" in err


def test_decision_log_is_read_as_a_set(logs: Path) -> None:
    """Repeated routes are skipped; a change of routes, or a log without texts, is a problem."""
    log = logs / "decisions.jsonl"
    log.write_bytes(HEAD + case("a") + HEAD + case("b"))
    assert read_set(log).decided_cases == 2
    log.write_bytes(HEAD + case("a") + head_of(ROUTES[:1], (), texts=True))
    with pytest.raises(ConfigError, match="line 3: routes: other routes than in line 1"):
        read_set(log)
    made = record()
    assert made.question is not None
    log.write_bytes(HEAD + line_of(decision_fields(made, made.question, SET, texts=False)))
    with pytest.raises(ConfigError, match=r"no texts; set logs\.decisions\.texts to true"):
        read_set(log)
