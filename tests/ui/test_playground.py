"""The playground as a person uses it: paste, see, edit, compare, copy."""

import json
import re

import pytest
import yaml
from playwright.sync_api import Page, expect

from serve_app.domain import Question, Scores, Unavailable
from tests.site import Site
from tests.ui.conftest import Open, Serve, Watch
from tests.ui.gateway import ROUTES, TEXTS, send

TEXT = "Debug this python function, it raises an IndexError"


def paste(page: Page, text: str) -> None:
    page.get_by_label("Conversation or request body").fill(text)


def score_of(page: Page, name: str) -> float:
    value = page.get_by_role("meter", name=name, exact=True).get_attribute("aria-valuenow")
    assert value is not None
    return float(value)


def open_route(page: Page, name: str) -> None:
    page.locator(".area-routes summary").filter(has_text=re.compile(f"^{name}")).click()


def test_pasted_text_shows_every_score_and_the_threshold(site: Site, open_page: Open) -> None:
    """As bars, with "no route" among them, what the engine saw, candidates, prices and headers."""
    page = open_page(site)
    paste(page, TEXT)
    expect(page.locator(".verdict")).to_have_text(re.compile(r"code.*dedicated/coder"))
    meters = page.get_by_role("meter")
    expect(meters).to_have_count(len(ROUTES) + 1)
    assert score_of(page, "code") > 0.9
    assert sum(score_of(page, str(route["name"])) for route in ROUTES) + score_of(
        page, "no route"
    ) == pytest.approx(1, abs=0.01)
    expect(page.locator(".axis-mark")).to_have_text("threshold 0.20")
    expect(page.locator(".seen")).to_contain_text(TEXT)
    expect(page.locator(".candidates li").first).to_contain_text("$2.50 in, $10.00 out")
    page.get_by_text("Headers of the answer").click()
    expect(page.locator(".headers")).to_contain_text("x-fingerpost-route")
    assert page.locator(".bar.wins .fill").bounding_box()["width"] > 100  # type: ignore[index]


def test_request_body_of_another_dialect_is_read(site: Site, open_page: Open) -> None:
    """A body that names its model is obeyed, until the person wants its content decided."""
    page = open_page(site)
    body = {"model": "fast", "system": "s", "messages": [{"role": "user", "content": TEXT}]}
    paste(page, json.dumps(body))
    expect(page.locator(".verdict")).to_have_text("dedicated/parrot")
    expect(page.get_by_text("Read as a message of Anthropic's dialect.")).to_be_visible()
    page.get_by_role("button", name="Decide by its content").click()
    expect(page.locator(".verdict")).to_contain_text("code")
    page.get_by_role("button", name="Obey them").click()
    expect(page.locator(".verdict")).to_have_text("dedicated/parrot")


def test_edit_shows_new_scores_and_what_changes(site: Site, open_page: Open) -> None:
    """Beside the configured scores, at once, and over the last decisions."""
    for text in TEXTS:
        send(site, text)
    page = open_page(site)
    paste(page, TEXT)
    expect(page.locator(".verdict")).to_contain_text("code")
    before = score_of(page, "code")
    open_route(page, "code")
    page.get_by_label("Description").first.fill("cooking, recipes and what to eat")
    page.get_by_label("Examples, one a line").first.fill("")
    expect(page.locator(".bar").first.locator(".moved")).to_have_text(re.compile("^\N{MINUS SIGN}"))
    assert score_of(page, "code") < before - 0.1
    assert page.locator(".bar .before").count() > 0
    expect(page.locator(".changes .summary")).to_contain_text("decisions would change")
    expect(page.locator(".moves li").first).to_contain_text("code")
    row = page.locator(".counts tbody tr").filter(has_text="code")
    before_count, after_count = (
        int(cell) for cell in row.locator("td.number").all_inner_texts()[:2]
    )
    assert after_count < before_count
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".bar .before")).to_have_count(0)
    assert score_of(page, "code") == pytest.approx(before, abs=0.001)


def test_threshold_moves_the_mark_and_the_decision(site: Site, open_page: Open) -> None:
    """A threshold above the best score leaves the default model."""
    page = open_page(site)
    paste(page, TEXT)
    expect(page.locator(".verdict")).to_contain_text("code")
    page.get_by_label("Threshold (min_confidence)").fill("1")
    expect(page.locator(".verdict")).to_contain_text("no route")
    expect(page.locator(".axis-mark")).to_have_text("threshold 1.00")


def test_routes_are_added_and_removed(site: Site, open_page: Open) -> None:
    """A new route competes at once; a removed one is gone from the scores and the YAML."""
    page = open_page(site)
    paste(page, "How long do I boil an egg?")
    expect(page.locator(".verdict")).to_contain_text("no route")
    page.get_by_role("button", name="Add a route").click()
    page.keyboard.type("cooking")
    page.locator(".route[open]").get_by_label("Description").fill("recipes, cooking and baking")
    expect(page.locator(".verdict")).to_contain_text("cooking")
    expect(page.locator(".area-routes .chip.wins")).to_have_count(1)
    page.get_by_role("button", name="Remove “").last.click()
    open_route(page, "translation")
    page.get_by_role("button", name="Remove “translation”").click()
    expect(page.get_by_role("meter")).to_have_count(len(ROUTES))
    expect(page.locator(".yaml")).not_to_contain_text("name: translation")


def test_faulty_edit_names_its_field(site: Site, open_page: Open, watch: Watch) -> None:
    """The last good decision stays, and the field is marked."""
    watch.allowed = ("400 (Bad Request)",)
    page = open_page(site)
    paste(page, TEXT)
    expect(page.locator(".verdict")).to_contain_text("code")
    open_route(page, "code")
    page.get_by_label("Model 1", exact=True).first.fill("dedicated/codr")
    expect(page.get_by_role("alert").first).to_contain_text("did you mean 'dedicated/coder'")
    expect(page.get_by_label("Model 1", exact=True).first).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    expect(page.locator(".verdict")).to_contain_text("code")


def test_copied_yaml_is_that_of_the_edited_routes(site: Site, open_page: Open) -> None:
    """The clipboard has what can be pasted into gateway.yaml."""
    page = open_page(site)
    open_route(page, "writing")
    page.locator(".route[open]").get_by_label("Examples, one a line").fill("a: b\n- c\n'd'")
    expect(page.locator(".yaml")).to_contain_text("- '- c'")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = yaml.safe_load(page.evaluate("navigator.clipboard.readText()"))
    assert copied["routing_preferences"][1]["examples"] == ["a: b", "- c", "'d'"]
    assert [route["name"] for route in copied["routing_preferences"]] == [
        route["name"] for route in ROUTES
    ]


def test_what_was_typed_outlives_another_view(site: Site, open_page: Open) -> None:
    """The draft and the conversation are there when a person comes back."""
    page = open_page(site)
    paste(page, TEXT)
    open_route(page, "code")
    page.get_by_label("Description").first.fill("programming")
    page.get_by_role("link", name="Live").click()
    expect(page.get_by_role("heading", name="Decisions")).to_be_visible()
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_label("Conversation or request body")).to_have_value(TEXT)
    expect(page.locator(".tag.edited")).to_be_visible()


class Paid:
    """An orchestrator that counts its questions."""

    def __init__(self) -> None:
        self.asked = 0

    async def score(self, question: Question) -> Scores | Unavailable:
        self.asked += 1
        scores = {route.name: 0.0 for route in question.routes}
        return Scores({**scores, "travel": 0.9}, 0.2, "travel", none=0.1)


def test_engine_that_may_cost_money_is_asked_by_a_button(serve: Serve, open_page: Open) -> None:
    """Neither what is typed nor what is edited asks it; the YAML follows all the same."""
    paid = Paid()
    server = {"engine": "http", "base_url": "http://127.0.0.1:9/v1", "model": "router"}
    page = open_page(serve(paid, orchestrator=server))
    paste(page, TEXT)
    open_route(page, "code")
    page.get_by_label("Description").first.fill("songs")
    expect(page.locator(".yaml")).to_contain_text("description: songs")
    page.wait_for_timeout(500)
    assert paid.asked == 0
    page.get_by_role("button", name="Decide", exact=True).click()
    expect(page.locator(".verdict")).to_contain_text("travel")
    assert paid.asked == 2  # as configured, and as edited


def test_playground_works_without_a_mouse(site: Site, open_page: Open) -> None:
    """Skip link, views, conversation, a route's description and the copy, by keys alone."""
    page = open_page(site)
    expect(page.get_by_role("meter")).to_have_count(0)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Conversation or request body")).to_be_focused()
    page.keyboard.type(TEXT)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".verdict")).to_contain_text("code")
    expect(page.locator("#announcer")).to_have_text("code: dedicated/coder")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.route') !== null"):
            break
    page.keyboard.press("Enter")  # opens the route
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name").first).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("songs")
    expect(page.locator(".yaml")).to_contain_text("description: songs")
    focus = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert focus == "solid"
    page.get_by_role("button", name="Copy").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
