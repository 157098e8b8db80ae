"""A real headless Chromium, for the tests that look at pages; they are skipped where there is none."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or (driver := shutil.which("chromedriver")) is None:
        pytest.skip("no Chromium with its driver is installed: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1900,1000"):
        options.add_argument(word)
    found = webdriver.Chrome(options, Service(driver))
    try:
        yield found
    finally:
        found.quit()
