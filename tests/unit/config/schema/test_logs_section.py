"""The section ``logs``."""

from pathlib import Path

import pytest

from serve_app.config.locations import ConfigError
from serve_app.config.warnings import config_warnings
from tests.unit.config_texts import ONE_MODEL
from tests.unit.fakes import snapshot_of


def test_logs_are_off_by_default(tmp_path: Path) -> None:
    """YAML reads ``off`` as false; it means the same with quotes."""
    for text in ("", "logs: {access: {to: off}, decisions: {to: 'off'}}\n"):
        logs = snapshot_of(tmp_path, ONE_MODEL + text).config.logs
        assert (logs.access.to, logs.decisions.to) == ("off", "off")
        assert (logs.access.file, logs.decisions.file) == (None, None)


def test_relative_files_start_at_the_configuration(tmp_path: Path) -> None:
    """Standard error is not a file."""
    text = ONE_MODEL + "logs: {access: {to: a.jsonl}, decisions: {to: /var/log/d.jsonl}}\n"
    logs = snapshot_of(tmp_path, text).config.logs
    assert logs.access.file == str(tmp_path / "a.jsonl")
    assert logs.decisions.file == "/var/log/d.jsonl"
    logs = snapshot_of(tmp_path, ONE_MODEL + "logs: {access: {to: stderr}}\n").config.logs
    assert (logs.access.to, logs.access.file) == ("stderr", None)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{access: {to: a}, decisions: {to: a}}", "both logs name the same file; name two"),
        ("{decisions: {to: stderr}}", "`to` must be off or a file; name a file"),
        ("{decisions: {to: a, sample: 0}}", "greater than 0"),
        ("{access: {to: a, files: 0}}", "must be at least 1"),
        ("{access: {to: true}}", "string"),
    ],
)
def test_broken_section_is_refused(tmp_path: Path, section: str, message: str) -> None:
    """Each problem says what is wrong."""
    with pytest.raises(ConfigError) as caught:
        snapshot_of(tmp_path, f"{ONE_MODEL}logs: {section}\n")
    assert message in str(caught.value)


def test_settings_of_a_log_that_is_off_are_warned_of(tmp_path: Path) -> None:
    """They would have no effect, and texts that are missing are noticed late."""
    text = ONE_MODEL + "logs: {decisions: {texts: true}, access: {to: off}}\n"
    config = snapshot_of(tmp_path, text).config
    assert config_warnings(config, {}) == [
        "logs.decisions is ignored: `to` is off; name a file in it"
    ]
