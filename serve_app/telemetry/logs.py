"""Opens the logs of a configuration."""

from pathlib import Path

from serve_app.config.schema.logs import OFF, STDERR, Logs, LogSize
from serve_app.telemetry.access_log import AccessLog
from serve_app.telemetry.decision_log import DecisionLog
from serve_app.telemetry.log_writer import LineTarget, LogWriter, StderrTarget
from serve_app.telemetry.metrics import Meter, Metric
from serve_app.telemetry.record import AttemptRecord, DecisionRecord, Observer, RequestRecord
from serve_app.telemetry.rotated_file import RotatedFile

_MEBIBYTE = 1 << 20
_ACCESS_MODE = 0o640
_DECISIONS_MODE = 0o600


class OpenLogs:
    """The logs that are switched on, their observers, and the count of lines that they lost."""

    def __init__(self, section: Logs, meter: Meter, replica: str = "") -> None:
        """Begins their threads; ``replica`` names this process in lines of the access log."""
        self._writers: dict[str, LogWriter] = {}
        self.observers: tuple[Observer, ...] = ()
        target = _target(section.access, _ACCESS_MODE)
        if target is not None:
            writer = self._writers["access"] = LogWriter(target)
            self.observers += (AccessLog(writer, replica),)
        decisions = section.decisions
        target = _target(decisions, _DECISIONS_MODE)
        if target is not None:
            writer = self._writers["decisions"] = LogWriter(target, preamble=lambda: log.head)
            log = DecisionLog(writer, texts=decisions.texts, sample=decisions.sample)
            self.observers += (log,)
        if self._writers:
            self.observers += (_LostLines(self._writers, meter),)

    def close(self) -> None:
        """Writes what waits, and ends the threads."""
        for writer in self._writers.values():
            writer.close()


class _LostLines:
    """Counts lost lines, whenever a request has ended."""

    def __init__(self, writers: dict[str, LogWriter], meter: Meter) -> None:
        self._writers = writers
        self._meter = meter
        self._counted = dict.fromkeys(writers, 0)

    def decided(self, decision: DecisionRecord) -> None:
        """Ignored."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Ignored."""

    def session_changed(self, event: str) -> None:
        """Ignored."""

    def ended(self, request: RequestRecord) -> None:
        """Counts what was lost since the last request."""
        del request
        for name, writer in self._writers.items():
            lost = writer.lost
            if lost != self._counted[name]:
                self._meter.count(Metric.LOST_LINES, (name,), lost - self._counted[name])
                self._counted[name] = lost


def _target(section: LogSize, mode: int) -> LineTarget | None:
    if section.to == OFF:
        return None
    if section.to == STDERR:
        return StderrTarget()
    max_bytes = section.max_megabytes * _MEBIBYTE
    return RotatedFile(Path(section.to), max_bytes=max_bytes, files=section.files, mode=mode)
