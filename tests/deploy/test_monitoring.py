"""Dashboards, alerts and the files that bring them up, against the metrics that there are."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest
import yaml

from serve_app.domain import Reason
from serve_app.exchange import FaultKind
from serve_app.telemetry.metrics import METRICS
from tests.deploy.promql import Query, QueryError, read_query
from tests.deploy.sites import CONFIGS, Json

MONITORING: Final = CONFIGS / "monitoring"
COMPONENT: Final = CONFIGS / "kuberay/components/monitoring"
DASHBOARDS: Final = sorted((MONITORING / "dashboards").glob("*.json"))
RULES: Final = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"][0]["rules"]
VALUES: Final = {
    "reason": {reason.value for reason in Reason},
    "outcome": {"ok", "scored", "cached", "joined", *(kind.value for kind in FaultKind)},
    "event": {"hit", "miss", "void", "store", "rebind", "lost", "error"},
    "gen_ai_token_type": {"input", "output", "cache_read", "cache_write"},
}
"""The values of labels that are a closed set."""


def dashboard(file: Path) -> Json:
    content: Json = json.loads(file.read_text())
    return content


def panels() -> Iterator[tuple[str, Json]]:
    for file in DASHBOARDS:
        for panel in dashboard(file)["panels"]:
            yield f"{file.stem}: {panel['title']}", panel


def without_variables(expression: str) -> str:
    return re.sub(r"\$(?!__rate_interval)\w+", ".*", expression)


def check_values(query: Query) -> None:
    """Fails for a matcher with a value that its label never has."""
    for selector in query.selectors:
        for label, value in selector.matchers.items():
            if label in VALUES and value not in {"", ".*"}:
                assert set(value.split("|")) <= VALUES[label], (label, value)


@pytest.mark.parametrize("panel", [panel for _, panel in panels()], ids=[name for name, _ in panels()])  # fmt: skip
def test_panel_shows_what_is_recorded(panel: Json) -> None:
    """Every query of a panel has metrics and labels of the table, and its legend labels of its
    groups.
    """
    assert panel["targets"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        query = read_query(without_variables(target["expr"]))
        check_values(query)
        shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        assert set(shown) == set(query.grouped) - {"le"} or not shown


@pytest.mark.parametrize("file", DASHBOARDS, ids=[file.stem for file in DASHBOARDS])
def test_dashboard_is_complete(file: Path) -> None:
    """A dashboard has an address of its own, its panels do not overlap, and its variables are used."""
    content = dashboard(file)
    assert content["uid"] == f"fingerpost-{file.stem}"
    assert content["tags"] == ["fingerpost"]
    ids = [panel["id"] for panel in content["panels"]]
    assert len(set(ids)) == len(ids) >= 8
    spots = [panel["gridPos"] for panel in content["panels"]]
    assert all(spot["x"] + spot["w"] <= 24 for spot in spots)
    for one, other in combinations(spots, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    text = json.dumps(content["panels"])
    for variable in content["templating"]["list"]:
        name = variable["name"]
        assert f"${name}" in text or f"${{{name}}}" in text
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]  # fmt: skip
            assert label in read_query(f"rate({metric}[5m])").selectors[0].labels
    for note in content["annotations"]["list"]:
        read_query(note["expr"])


def test_dashboards_are_those_that_are_named() -> None:
    """There is a dashboard for the whole, for routing, for providers and for cost."""
    assert [file.stem for file in DASHBOARDS] == ["cost", "overview", "providers", "routing"]


def test_most_metrics_are_on_a_dashboard() -> None:
    """Each metric is on a dashboard, but for those that only count what others show."""
    text = "".join(file.read_text() for file in DASHBOARDS)
    missing = {metric.value for metric in METRICS if metric.value not in text}
    assert missing == {
        "fingerpost_reloads_total",
        "fingerpost_tier_tokens_total",
        "fingerpost_tier_unpriced_total",
    }


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_alert_watches_what_is_recorded(rule: Json) -> None:
    """An alert's query has metrics and labels of the table, and its text labels of its result."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Fingerpost[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
    query = read_query(rule["expr"])
    check_values(query)
    text = " ".join(rule["annotations"].values())
    grouped = {*query.grouped} or {label for one in query.selectors for label in one.labels}
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= grouped
    assert text.count("{{") == text.count("}}")


def test_alerts_cover_what_goes_wrong() -> None:
    """There is an alert for failures, fallbacks, routing, reload, cost and the store, one each."""
    names = [rule["alert"].removeprefix("Fingerpost") for rule in RULES]
    assert len(set(names)) == len(names)
    assert {"Errors", "Fallbacks", "NotRouting", "ReloadRefused", "Spending", "BudgetNear", "SessionStoreAway"} <= set(names)  # fmt: skip


def test_alerts_on_kubernetes_are_the_same() -> None:
    """The PrometheusRule has the groups of rules.yaml."""
    rule = yaml.safe_load((COMPONENT / "prometheus-rule.yaml").read_text())
    assert rule["spec"] == yaml.safe_load((MONITORING / "rules.yaml").read_text())


def test_scraped_names_lose_the_prefix_of_ray() -> None:
    """Both ways to scrape rename Ray's series to the names of the table, and leave others alone."""
    scrape = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"][0]
    (relabel,) = scrape["metric_relabel_configs"]
    monitor = yaml.safe_load((COMPONENT / "pod-monitor.yaml").read_text())
    (own,) = monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"]
    assert (own["regex"], own["replacement"]) == (relabel["regex"], relabel["replacement"])
    assert relabel["target_label"] == own["targetLabel"] == "__name__"
    pattern = re.compile(relabel["regex"])
    for metric in METRICS:
        match = pattern.fullmatch(f"ray_{metric.value}")
        assert match is not None
        assert match[1] == metric.value
    assert pattern.fullmatch("ray_serve_num_http_requests") is None


def test_compose_file_mounts_files_that_exist() -> None:
    """Every file that compose.yaml mounts exists, images have versions, and ports are on loopback."""
    compose = yaml.safe_load((MONITORING / "compose.yaml").read_text())
    assert set(compose["services"]) == {"prometheus", "grafana", "collector", "jaeger"}
    for service in compose["services"].values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (MONITORING / source).exists(), source
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    collector = yaml.safe_load((MONITORING / "collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    assert "127.0.0.1:14318:4318" in compose["services"]["jaeger"]["ports"]
    assert collector["exporters"]["otlphttp"]["endpoint"] == "http://127.0.0.1:14318"


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(fingerpost_request_total[5m])",
        "rate(fingerpost_requests_total{provider='x'}[5m])",
        'rate(fingerpost_requests_total{provider="x"}[5m])',
        "sum by (provider) (rate(fingerpost_requests_total[5m]))",
        "sum by (status) (rate(fingerpost_requests_total[5m])",
        "fingerpost_requests_total",
        "rate(fingerpost_requests_total)",
        "rate(fingerpost_policy_in_force[5m])",
        "rate(gen_ai_server_request_duration[5m])",
        "histogram_quantile(0.9, sum(rate(gen_ai_server_request_duration_bucket[5m])))",
        "avg_rate(fingerpost_requests_total[5m])",
        "sum(rate(fingerpost_requests_total[5m])) by (status)",
        "sum by (status)",
        "1 + 1",
    ],
)
def test_query_that_is_wrong_is_found(wrong: str) -> None:
    """The reader of queries refuses unknown names and labels, and what would show nothing."""
    with pytest.raises(QueryError):
        read_query(wrong)
