"""Takes the screenshots of docs/guides/page.md anew: ``python -m tests.ui.screenshots``.

They show a gateway without Ray over scripted providers, which needs no key.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.scripted_provider import ScriptedProvider
from tests.site import DATA_PATHS, SECRET, Site
from tests.ui.conftest import MISSING, find_chromium
from tests.ui.gateway import send_all, write_page_config
from tests.wire.conftest import serve_api

GUIDES: Final = Path(__file__).parents[2] / "docs/guides"
TEXT: Final = "The unit tests fail on Windows only, can you tell me why?"
DESKTOP: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 375, "height": 812}


def main() -> int:
    """Writes every picture."""
    path = find_chromium()
    if path is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    with ExitStack() as stack:
        providers = {name: stack.enter_context(ScriptedProvider()) for name in DATA_PATHS}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = write_page_config(folder, providers)
        environ = {"FINGERPOST_TEST_KEY": SECRET}
        site = stack.enter_context(serve_api(config, providers, environ))
        send_all(site)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=path)
        take_all(browser, site)
        browser.close()
    return 0


def take_all(browser: Browser, site: Site) -> None:
    """The playground in light, in dark and on a phone, the live view and the configuration."""
    for name, view, options in (
        ("page-playground", "playground", {"viewport": DESKTOP, "color_scheme": "light"}),
        ("page-dark", "playground", {"viewport": DESKTOP, "color_scheme": "dark"}),
        ("page-phone", "playground", {"viewport": PHONE, "color_scheme": "light"}),
        ("page-live", "live", {"viewport": DESKTOP, "color_scheme": "light"}),
        ("page-configuration", "configuration", {"viewport": DESKTOP, "color_scheme": "dark"}),
    ):
        take(browser, site, GUIDES / f"{name}.png", view, **options)


def take(browser: Browser, site: Site, file: Path, view: str, **options: Any) -> None:
    """One picture of what fits on the screen."""
    context = browser.new_context(reduced_motion="reduce", locale="en-GB", **options)
    page = context.new_page()
    page.goto(f"{site.url}/ui/#{view}")
    if view == "playground":
        edit(page)
    elif view == "live":
        page.locator(".row").first.wait_for()
        page.locator(".providers").wait_for()
    else:
        page.locator(".picture .node").first.wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    page.screenshot(path=file)
    sys.stdout.write(f"{file.name}: {file.stat().st_size >> 10} KB\n")
    context.close()


def edit(page: Page) -> None:
    """Pastes a conversation, and gives a route an example."""
    page.get_by_label("Conversation or request body").fill(TEXT)
    page.locator(".bar").first.wait_for()
    page.locator(".area-routes summary").first.click()
    examples = page.get_by_label("Examples, one a line").first
    examples.fill(f"{examples.input_value()}\nthe tests pass here and fail on another machine")
    page.locator(".changes .summary").wait_for()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


if __name__ == "__main__":
    sys.exit(main())
