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


def missing():
    """What stands between these tests and a browser, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "no Playwright: pip install 'quadtok[browser]'"
    if executable() is None:
        return "no Chromium: apt-get install chromium"
    return None


class WithoutBrowser(pytest.Module):
    """Stands for a file whose tests cannot run: one line for them all, where a skip in a fixture gives one for each."""

    def collect(self):
        reason = f"the page was not tried in a browser: {missing()}"
        if os.environ.get("QUADTOK_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{reason} (QUADTOK_REQUIRE_BROWSER=1)", pytrace=False)
        pytest.skip(reason)  # it names what is missing


def pytest_pycollect_makemodule(module_path, parent):
    return WithoutBrowser.from_parent(parent, path=module_path) if missing() else None


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield chromium
        chromium.close()
