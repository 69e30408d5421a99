"""A browser, a gateway without Ray, and pages that are watched for errors and foreign requests."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from serve_app.ports import Orchestrator
from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site
from tests.ui.gateway import KEY, write_page_config
from tests.wire.conftest import serve_api

SKIP: Final = "FINGERPOST_SKIP_BROWSER"
MISSING: Final = (
    "Chromium is missing; install it with `apt-get install -y --no-install-recommends chromium "
    f"fonts-dejavu-core`, or set {SKIP}=1 to leave these tests out"
)


def find_chromium() -> str | None:
    """The path of the system's Chromium; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; not for longer, because Playwright's loop keeps other loops from running."""
    if os.environ.get(SKIP):
        pytest.skip(f"{SKIP} is set")
    path = find_chromium()
    if path is None:
        pytest.fail(MISSING)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path)
        yield running
        running.close()


expect.set_options(timeout=15_000)  # a busy machine must not fail a test

Serve = Callable[..., Site]


@pytest.fixture(scope="module")
def serve(
    tmp_path_factory: pytest.TempPathFactory, providers: dict[str, ScriptedProvider]
) -> Iterator[Serve]:
    """Starts gateways of the page's configuration, with other keys."""
    with ExitStack() as stack:

        def start(engine: Orchestrator | None = None, **keys: Any) -> Site:
            file = write_page_config(tmp_path_factory.mktemp("page"), providers)
            file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
            environ = {"FINGERPOST_TEST_KEY": SECRET, "CLIENT_KEY": KEY}
            started = serve_api(file, providers, environ, orchestrator=engine)
            return stack.enter_context(started)

        yield start


@pytest.fixture(scope="module")
def site(serve: Serve) -> Site:
    """A gateway without client keys."""
    return serve()


class Watch:
    """What a page asked for and complained about."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.allowed: tuple[str, ...] = ()
        """Parts of complaints that a test expects."""

    def on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def check(self, origin: str) -> None:
        """Fails if anything was asked of another origin, or if the console has an error."""
        origins = {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in self.requests}
        assert origins <= {origin}
        unexpected = [
            text for text in self.complaints if not any(part in text for part in self.allowed)
        ]
        assert not unexpected


Open = Callable[..., Page]


@pytest.fixture
def watch() -> Watch:
    """What the pages of this test asked for and complained about."""
    return Watch()


@pytest.fixture
def open_page(browser: Browser, watch: Watch) -> Iterator[Open]:
    """Opens pages; at the end none may have asked another place, nor have an error."""
    contexts: list[tuple[BrowserContext, str]] = []

    def start(site: Site, view: str = "playground", **options: Any) -> Page:
        settings = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options}
        context = browser.new_context(**settings)
        context.set_default_timeout(15_000)
        contexts.append((context, f"http://{site.host}:{site.port}"))
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("request", watch.on_request)
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                watch.complaints.append(message.text)
                if message.type in {"error", "warning"}
                else None
            ),
        )
        page.goto(f"{site.url}/ui#{view}")
        return page

    yield start
    for context, origin in contexts:
        context.close()
        watch.check(origin)
