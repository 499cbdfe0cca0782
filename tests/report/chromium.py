"""A headless Chromium for the tests of pages."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Yields a driver of a fresh browser that logs its console and its requests; skips where there is none."""
    browser, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not browser or not driver:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[dev]'")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        opened.set_script_timeout(30)
        yield opened
    finally:
        opened.quit()


def requests_of(driver: Any) -> list[str]:
    """Returns the addresses that were asked for since the last call, but for what is inside the page or the browser."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    addresses = [message["params"]["request"]["url"] for message in sent]
    return [
        address for address in addresses if not address.startswith(("data:", "blob:", "chrome:", "chrome-untrusted:"))
    ]


def complaints_of(driver: Any) -> list[str]:
    """Returns what the console was told since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]
