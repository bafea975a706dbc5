"""The page in a real browser, with a real MLflow behind its links."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ablator.results.store import Store
from ablator.results.ui import ui_command, ui_environment

Ablator = Callable[..., Result]
Fill = Callable[..., Path]

pytestmark = pytest.mark.slow
PHONE, DESKTOP = (390, 844), (1280, 900)
_SECONDS = 180


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium, as Debian has it."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


@pytest.fixture
def server(fill: Fill) -> Iterator[tuple[str, Path]]:
    """MLflow over the store, and the store."""
    store = Store.open(fill())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (store.root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ui_command(store, port=port),
            env={**os.environ, **ui_environment()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(lambda: _answers(address) or process.poll() is not None)
            assert process.poll() is None, (store.root / "server.log").read_text(errors="replace")
            yield address, store.root
        finally:
            # The group, because its workers outlive the server's own process.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2):
        return True
    return False


def look(browser: Any, page: Path, size: tuple[int, int], scheme: str, part: str = "") -> None:
    """Open the page anew as a device of this size shows it."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    browser.get(f"{page.as_uri()}{part}")


def first(browser: Any, selector: str) -> list[str]:
    """Texts of what is in the first column, top to bottom."""
    return [found.text for found in browser.find_elements("css selector", selector)]


def shown_panels(browser: Any) -> list[str]:
    found = browser.find_elements("css selector", ".panel")
    return [panel.get_attribute("id") for panel in found if panel.is_displayed()]


def test_sorting_tabs_and_links_at_every_size_and_scheme(
    browser: Any, server: tuple[str, Path], ablator: Ablator, study: Path
) -> None:
    address, store = server
    ablator("run", study, "-p", "laptop", "--store", store, "--mlflow", address)
    page = store / "reports/tiny/laptop/page.html"
    for size in (PHONE, DESKTOP):
        for scheme, paper in {"light": "rgba(252, 252, 250, 1)", "dark": "rgba(21, 23, 26, 1)"}.items():
            look(browser, page, size, scheme)
            body = browser.find_element("css selector", "body")
            assert body.value_of_css_property("background-color") == paper
            width = browser.execute_script("return document.documentElement.scrollWidth")
            assert width <= size[0], "tables scroll by themselves"
            assert (len(shown_panels(browser)) == 1) is (size == DESKTOP)
            assert browser.get_log("browser") == [], "no error, and nothing that the policy refuses"
    _sort(browser)
    _tabs(browser, page)
    _switch(browser)
    _copy(browser, page)
    _hint(browser, page)
    assert browser.get_log("browser") == []
    look(browser, page, DESKTOP, "light", "#seeds")
    browser.find_element("link text", "81.00").click()
    _wait(lambda: "n = 2 · seed 0" in browser.find_element("css selector", "body").text)
    assert browser.current_url.startswith(f"{address}/#/experiments/")


def _wait(so: Callable[[], bool]) -> None:
    until = time.monotonic() + _SECONDS
    while not so():
        assert time.monotonic() < until
        time.sleep(0.2)


def _sort(browser: Any) -> None:
    labels = "#results tbody th.arm"
    assert first(browser, labels) == ["base", "n = 2", "n = 4"]
    head = browser.find_element("css selector", "#results thead tr:last-child th:nth-child(2)")
    button = head.find_element("css selector", "button")
    button.click()
    assert first(browser, labels) == ["n = 4", "n = 2", "base"]
    assert head.get_attribute("aria-sort") == "descending"
    button.send_keys("\ue007")  # Enter
    assert first(browser, labels) == ["base", "n = 2", "n = 4"]
    assert head.get_attribute("aria-sort") == "ascending"
    button.send_keys("\ue007")
    assert head.get_attribute("aria-sort") is None


def _tabs(browser: Any, page: Path) -> None:
    browser.find_element("link text", "Cost").click()
    assert shown_panels(browser) == ["cost"]
    tab = browser.find_element("css selector", "[role=tab][aria-selected=true]")
    assert tab.text == "Cost"
    tab.send_keys("\ue014")  # right arrow
    assert shown_panels(browser) == ["seeds"]
    look(browser, page, DESKTOP, "light", "#design")
    assert shown_panels(browser) == ["design"], "an address leads to its part"
    assert "moto.n" in browser.find_element("css selector", "#design thead").text
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(shown_panels(browser)) > 4
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def _copy(browser: Any, page: Path) -> None:
    """A row's command is unfolded and copied, or selected where the browser gives no clipboard."""
    look(browser, page, DESKTOP, "light", "#design")
    browser.find_element("css selector", "details.commands summary").click()
    place = browser.find_elements("css selector", ".commands dd")[1]
    assert place.find_element("css selector", "pre").text.endswith("tiny.yaml --profile laptop --row 'n = 2'")
    button = place.find_element("css selector", "button.copy")
    assert button.text == "Copy"
    button.click()
    _wait(lambda: button.text in ("Copied", "Selected"))


def _hint(browser: Any, page: Path) -> None:
    """A table that is wider than a phone fades out at its end, until it is scrolled there."""
    look(browser, page, PHONE, "light")
    box = browser.find_element("css selector", "#results .scroll")
    _wait(lambda: "more" in box.get_attribute("class"))
    browser.execute_script("arguments[0].scrollLeft = arguments[0].scrollWidth", box)
    _wait(lambda: "more" not in box.get_attribute("class"))
    look(browser, page, DESKTOP, "light")
    assert "more" not in browser.find_element("css selector", "#results .scroll").get_attribute("class")


def _switch(browser: Any) -> None:
    button = browser.find_element("css selector", "button.theme")
    body = browser.find_element("css selector", "body")
    before = body.value_of_css_property("background-color")
    button.click()
    assert body.value_of_css_property("background-color") != before
    button.click()
    assert body.value_of_css_property("background-color") == before
