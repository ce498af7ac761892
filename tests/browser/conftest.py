"""A headless Chromium. Without one the tests are skipped and say why; with QUADTOK_REQUIRE_BROWSER=1 they fail."""

import importlib.util
import os
import shutil

import pytest

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
ARGUMENTS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def executable():
    return next(filter(None, map(shutil.which, NAMES)), None)


def give_up(reason):
    if os.environ.get("QUADTOK_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason} (QUADTOK_REQUIRE_BROWSER=1)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser():
    if importlib.util.find_spec("playwright") is None:
        give_up("the page was not tried in a browser: no playwright, pip install 'quadtok[browser]'")
    if executable() is None:
        give_up("the page was not tried in a browser: no Chromium, apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield chromium
        chromium.close()
