# SPDX-License-Identifier: GPL-2.0-only
"""The report in a real browser: whether it fits a phone and a desk, whether the
browser complains, and pictures of it for README."""

import base64
from pathlib import Path

from .errors import Wrong

PHONE, DESK = 360, 1280		# how wide a page is there, in CSS pixels
HEIGHT = 800
# README's, and how large they may be in the repository
PICTURES = Path("tools/rig/pictures")
FIRST_SCREEN = 1060, 480	# all columns, and no more
PLOT_SCREEN = 960		# where a plot is not larger than that
LARGEST = 100_000		# bytes
# What sticks out of the page, if anything does; in a box that scrolls it may.
OVERFLOW = """
const page = document.documentElement, wide = page.clientWidth;
const out = Array.from(document.querySelectorAll("body, body *")).filter(one =>
	one.getBoundingClientRect().right > wide + 1 && !one.closest(".plot > *"));
return out.map(one => one.tagName + ": " + one.textContent.trim().slice(0, 60)).concat(
	page.scrollWidth > wide ? ["the page, " + page.scrollWidth + " pixels"] : []);
"""
# Rows that are seen, or would be where something is opened.
ROWS = """
return Array.from(document.querySelectorAll("tbody tr")).filter(
	row => row.offsetHeight > 0 || row.closest("details")).map(
	row => Array.from(row.children).map(cell => cell.textContent.trim()));
"""
UNEXPECTED = """
return Array.from(document.querySelectorAll("details.wrong > summary")).map(
	one => one.textContent.trim());
"""


class Browser:
    """A headless Chromium; to be used with "with"."""

    def __init__(self):
        try:
            from selenium import webdriver
            from selenium.webdriver.chrome.service import Service
        except ImportError:
            raise Wrong("selenium is not here: tools/rig/setup browser") from None
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        # root, in a container as often as not, where there is no sandbox to have
        for one in ("--headless=new", "--no-sandbox", "--disable-gpu",
                    "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(one)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        try:
            self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"),
                                           options=options)
        except Exception as error:	# of selenium's, or there is no such program
            raise Wrong(f"chromium does not start: {str(error).splitlines()[0]}") \
                from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def open(self, path, width, height=HEIGHT, media="screen"):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width == PHONE})
        self.driver.get(Path(path).resolve().as_uri())

    def problems(self):
        """Of the page that is open: what does not fit, and what the console has."""
        return [f"too wide: {one}" for one in self.driver.execute_script(OVERFLOW)] + [
            f"console: {one['message']}" for one in self.driver.get_log("browser")]

    def rows(self):
        return self.driver.execute_script(ROWS)

    def unexpected(self):
        return self.driver.execute_script(UNEXPECTED)

    def open_all(self):
        """What is there on demand, too."""
        self.driver.execute_script(
            "for (const one of document.querySelectorAll('details')) one.open = true;")

    def picture(self, path, selector=None):
        """A PNG of the first screen, or of the first element that is found."""
        more = {}
        if selector:
            box = self.driver.execute_script(
                "const one = document.querySelector(arguments[0]);"
                "if (!one) return null;"
                "const box = one.getBoundingClientRect();"
                "return {x: box.x + scrollX, y: box.y + scrollY,"
                " width: box.width, height: box.height, scale: 1};", selector)
            if not box:
                raise Wrong(f"no {path}: the report has none (see make help)")
            more = {"clip": box, "captureBeyondViewport": True}
        png = base64.b64decode(self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", **more})["data"])
        if len(png) > LARGEST:
            raise Wrong(f"{path}: it would be {len(png)} bytes, more than {LARGEST}")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_bytes(png)
        new.replace(path)
        print(f"  PICTURE {path}")


def pictures(page):
    """Of a report: its first screen, and the first plot that it has."""
    if not page.exists():
        raise Wrong(f"{page}: there is no report: make report")
    with Browser() as browser:
        browser.open(page, *FIRST_SCREEN)
        wrong = browser.problems()
        if wrong:
            raise Wrong(f"{page}: {wrong[0]}")
        browser.picture(PICTURES / "report.png")
        browser.open(page, PLOT_SCREEN)
        browser.picture(PICTURES / "curves.png", "#bench ~ .plot img")
