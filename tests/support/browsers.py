"""Headless Chromium for tests of the page, which are skipped where it is not installed."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Each test may look at one page for this many seconds.
PATIENCE_SECONDS = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Browser:
    """A browser with one window."""

    driver: Any

    def open(self, url: str | Path, width: int = 1200, height: int = 900) -> None:
        """Show a page in a window of this size, in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        self.driver.get(url.as_uri() if isinstance(url, Path) else url)

    def command(self, name: str, **parameters: object) -> dict[str, Any]:
        """A command of the Chrome DevTools Protocol."""
        found: dict[str, Any] = self.driver.execute_cdp_cmd(name, parameters)
        return found

    def media(self, **features: str) -> None:
        """Emulate preferences of the user such as ``prefers_color_scheme``."""
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=given)

    def script(self, text: str) -> Any:
        """The value of a script that runs in the page."""
        return self.driver.execute_script(text)

    def text(self, selector: str = "body") -> str:
        """The text of the first element that matches, as a reader sees it."""
        return str(self.driver.find_element("css selector", selector).text)

    def texts(self, selector: str) -> list[str]:
        """The text of each element that matches and is visible."""
        return [text for e in self.driver.find_elements("css selector", selector) if (text := e.text)]

    def click(self, selector: str) -> None:
        """Click at the first element that matches."""
        self.driver.find_element("css selector", selector).click()

    def complaints(self) -> list[str]:
        """Errors and violations of the page's policy since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def keep(self, name: str) -> bytes:
        """A picture of the whole page; kept in the folder ``CONFITURE_SCREENSHOTS`` if there is one."""
        found = base64.b64decode(self.command("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        folder = os.environ.get("CONFITURE_SCREENSHOTS")
        if folder:
            Path(folder, f"{name}.png").write_bytes(found)
        return found

    def printed(self) -> bytes:
        """The page as a PDF, on the paper that its style names."""
        return base64.b64decode(self.command("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile.

    :raises pytest.skip.Exception: when Chromium, its driver or selenium is missing.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed (Debian: chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths["chromedriver"]))
    driver.set_page_load_timeout(PATIENCE_SECONDS)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
