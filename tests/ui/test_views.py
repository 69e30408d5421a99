"""The live view and the configuration, and what holds for all views: phones, dark mode, keys."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.site import Site
from tests.ui.conftest import Open, Serve, Watch
from tests.ui.gateway import KEY, TEXTS, send, send_all

VIEWS = ("playground", "live", "configuration")
EVIL = "<img src=x onerror=alert(1)>\"'</script>"


def width_of(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width


def settle(page: Page, view: str) -> None:
    """Waits until a view shows its content."""
    shown = {"playground": ".bars", "live": ".row", "configuration": ".picture .node"}[view]
    expect(page.locator(shown).first).to_be_visible()


def test_decisions_appear_as_they_come(site: Site, open_page: Open) -> None:
    """Newest first, without a reload, with costs by route, sessions and figures."""
    page = open_page(site, "live")
    expect(page.locator(".state")).to_have_text("Following")
    send(site, TEXTS[1], session="chat-1")
    row = page.locator(".row").first
    expect(row).to_contain_text("writing")
    expect(row).to_contain_text("inline/poet")
    expect(row).to_contain_text("$0.0000")
    expect(page.locator(".costs")).to_contain_text("writing")
    expect(page.locator(".sessions")).to_contain_text("inline/poet")
    row.locator("summary").click()
    expect(row.locator(".row-detail")).to_contain_text(TEXTS[1])
    row.get_by_role("button", name="Open in the playground").click()
    expect(page.get_by_label("Conversation or request body")).to_have_value(TEXTS[1])
    expect(page.locator(".verdict")).to_contain_text("writing")


def test_live_view_pauses_and_filters(site: Site, open_page: Open) -> None:
    """While it is paused the list stands still and says what it misses."""
    send(site, TEXTS[0])
    page = open_page(site, "live")
    settle(page, "live")
    page.get_by_role("button", name="Pause").click()
    shown = page.locator(".row").count()
    send(site, TEXTS[2])
    expect(page.locator(".state")).to_have_text("Paused, 1 new")
    assert page.locator(".row").count() == shown
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".row").first).to_contain_text("translation")
    page.get_by_label("Filter").fill("polyglot")
    expect(page.locator(".row")).to_have_count(1)
    page.get_by_label("Filter").fill("no such thing")
    expect(page.locator(".empty")).to_have_text("No decision matches the filter.")
    page.get_by_label("Filter").fill("")
    page.get_by_label("Kind").select_option("failed")
    page.get_by_label("Filter").fill("model_not_found")
    send(site, "hello", "nothing/there")
    expect(page.locator(".row .status")).to_have_text(["404"])


def test_resting_endpoints_are_shown(site: Site, open_page: Open) -> None:
    """With the reason and the seconds that are left."""
    for _ in range(4):
        site.ask("spare/parrot")
    page = open_page(site, "live")
    entry = page.locator(".providers li").filter(has_text="spare/parrot")
    expect(entry).to_contain_text("resting")
    expect(entry).to_contain_text(re.compile(r"\d+ s left"))


def test_live_view_says_which_replica_it_shows(site: Site, open_page: Open) -> None:
    """Another replica knows other requests."""
    page = open_page(site, "live")
    expect(page.locator(".area-figures .hint")).to_have_text(
        re.compile(r"The last 500 requests that ingress replica [0-9a-f]{6} answered\.")
    )
    expect(page.locator("#foot")).to_contain_text("each shows the requests that it answered itself")


def test_configuration_is_a_picture(site: Site, open_page: Open) -> None:
    """Names, routes, models and providers, with their lines; arrow keys move between them."""
    page = open_page(site, "configuration")
    settle(page, "configuration")
    for name in ("alias assistant", "route code, to dedicated/coder, inline/parrot"):
        expect(page.get_by_role("listitem", name=name).first).to_be_visible()
    line = '.line[data-from="route:code"][data-to="model:dedicated/coder"]'
    expect(page.locator(line)).to_have_count(1)
    expect(page.locator('.line[data-from="alias:fast"]')).to_have_count(1)
    page.locator(".node[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.id") == "route:code"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.id") == "route:writing"
    expect(page.locator(".picture.lit .node.on").filter(has_text="inline/poet")).to_have_count(1)


@pytest.mark.parametrize("view", VIEWS)
def test_view_fits_on_a_phone(site: Site, open_page: Open, view: str) -> None:
    """Nothing is wider than 375 pixels, and what is touched is large enough."""
    send_all(site)
    long = "x" * 300
    send(site, f"Write a poem about {long}")
    page = open_page(site, view, viewport={"width": 375, "height": 812}, has_touch=True)
    if view == "playground":
        page.get_by_label("Conversation or request body").fill(f"Write a poem about {long}")
        page.locator(".area-routes summary").first.click()
        page.get_by_label("Description").first.fill(f"poems {long}")
        expect(page.locator(".changes .summary")).to_be_visible()
    settle(page, view)
    if view == "live":
        page.locator(".row summary").first.click()
    assert width_of(page) == 375
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is None or box["height"] >= 24


def background(page: Page) -> tuple[int, ...]:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return tuple(map(int, re.findall(r"\d+", colour)))


def test_dark_mode_follows_the_system_and_the_switch(site: Site, open_page: Open) -> None:
    """The switch goes from the system's choice to light and dark, and is remembered."""
    page = open_page(site, color_scheme="dark")
    assert max(background(page)) < 40
    page.get_by_role("button", name="Theme: system. Switch to light.").click()
    assert min(background(page)) > 200
    page.get_by_role("button", name="Theme: light. Switch to dark.").click()
    assert max(background(page)) < 40
    page.emulate_media(color_scheme="light")
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark. Switch to system.")).to_be_visible()
    assert max(background(page)) < 40


CONTRAST = """() => {
  const channels = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || box.width < 2 || element.closest("svg, :disabled") || getComputedStyle(element).visibility === "hidden") continue;
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(paper(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(site: Site, open_page: Open, scheme: str) -> None:
    """Every text has a contrast of 4.5 to 1 at least, in both themes."""
    send_all(site)
    page = open_page(site, color_scheme=scheme)
    page.get_by_label("Conversation or request body").fill(TEXTS[0])
    page.get_by_label("Threshold (min_confidence)").fill("0.9")
    expect(page.locator(".changes .summary")).to_be_visible()
    for view in VIEWS:
        page.goto(f"{site.url}/ui/#{view}")
        settle(page, view)
        page.wait_for_timeout(150)
        assert page.evaluate(CONTRAST) == []


CONTROLS = "button|link|textbox|combobox|slider|meter"


def test_every_control_has_a_name(site: Site, open_page: Open) -> None:
    """A screen reader says what a button, a field or a link is for."""
    send(site, TEXTS[0])
    page = open_page(site)
    page.get_by_label("Conversation or request body").fill(TEXTS[0])
    page.locator(".area-routes summary").first.click()
    for view in VIEWS:
        page.goto(f"{site.url}/ui/#{view}")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        settle(page, view)
        tree = page.locator("body").aria_snapshot()  # at once: lists change while one looks
        controls = re.findall(rf"^ *- ({CONTROLS})\b(.*)$", tree, re.MULTILINE)
        assert controls
        assert [role for role, rest in controls if not re.match(r' "[^"]', rest)] == []


def test_client_key_is_asked_for_and_kept_in_the_tab(
    serve: Serve, open_page: Open, watch: Watch
) -> None:
    """It is in no address and no cookie, and signing out forgets it."""
    watch.allowed = ("401 (Unauthorized)",)
    site = serve(client_keys=["$CLIENT_KEY"])
    page = open_page(site)
    page.get_by_label("Key", exact=True).fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("The gateway does not know this key.")
    page.get_by_label("Key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    page.get_by_label("Conversation or request body").fill(TEXTS[0])
    expect(page.locator(".verdict")).to_contain_text("code")
    page.reload()
    expect(page.get_by_label("Conversation or request body")).to_be_visible()
    assert page.context.cookies() == []
    assert not any(KEY in url for url in watch.requests)
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    page.locator(".area-routes summary").first.click()
    page.get_by_label("Description").first.fill("programming")
    expect(page.locator(".changes")).to_contain_text("does not keep texts")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def test_page_that_is_off_is_not_served(serve: Serve, open_page: Open, watch: Watch) -> None:
    """One switch in the configuration."""
    watch.allowed = ("404 (Not Found)",)
    page = open_page(serve(ui={"enabled": False}))
    assert "unknown_path" in page.content()


def evil_site(serve: Serve) -> Site:
    routes: list[dict[str, Any]] = [
        {"name": EVIL, "description": f"poems {EVIL}", "models": ["inline/poet"], "examples": [EVIL]},
        {"name": "constructor", "description": "objects", "models": ["inline/parrot"]},
    ]  # fmt: skip
    return serve(
        routing_preferences=routes,
        no_route_examples=[EVIL],
        model_aliases={EVIL: {"target": "auto"}},
    )


def test_markup_in_names_and_texts_stays_text(serve: Serve, open_page: Open) -> None:
    """Neither the configuration, nor what users write, nor what is pasted becomes an element."""
    site = evil_site(serve)
    asked = f"Write me a poem with four verses about autumn, please. {EVIL}"
    send(site, asked)
    send(site, "hello", f"nothing/{EVIL}")
    page = open_page(site)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    body = {"messages": [{"role": "user", "content": asked}]}
    page.get_by_label("Conversation or request body").fill(json.dumps(body))
    expect(page.locator(".verdict")).to_contain_text(EVIL)
    expect(page.locator(".seen").first).to_contain_text(EVIL)
    page.locator(".area-routes summary").first.click()
    page.get_by_label("Description").first.fill(f"cooking {EVIL}")
    expect(page.locator(".changes .summary")).to_be_visible()
    for view in ("live", "configuration"):
        page.goto(f"{site.url}/ui/#{view}")
        settle(page, view)
        expect(page.get_by_text("onerror").filter(visible=True).first).to_be_visible()
        assert page.locator("main img, main script").count() == 0


def test_policy_forbids_markup_even_if_code_tried(
    site: Site, open_page: Open, watch: Watch
) -> None:
    """A mistake in the page's own code could not turn data into markup or scripts."""
    watch.allowed = ("requires 'TrustedHTML' assignment",)
    page = open_page(site)
    tried = """() => { try { document.body.innerHTML = "<b>x</b>"; return "done"; } catch (e) { return e.name; } }"""
    assert page.evaluate(tried) == "TypeError"
    assert page.evaluate("location.href") == f"{site.url}/ui/#playground"


def test_page_moves_nothing_where_motion_is_unwanted(site: Site, open_page: Open) -> None:
    """`prefers-reduced-motion` ends every transition."""
    page = open_page(site, reduced_motion="reduce")
    page.get_by_label("Conversation or request body").fill(TEXTS[0])
    settle(page, "playground")
    moves = """[...document.querySelectorAll("*")].filter((e) => getComputedStyle(e).transitionDuration !== "0s").length"""
    assert page.evaluate(moves) == 0
