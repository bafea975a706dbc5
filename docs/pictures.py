"""The pictures of a page in `docs/images/`: on a desktop and on a phone, light and dark.

    ablator run experiments/moto_n.yaml --profile laptop
    python docs/pictures.py .ablator/reports/moto_n/laptop/page.html

Needs Debian's chromium and chromium-driver, and selenium (of `.[dev]`). Colours are reduced to a palette, so
that each picture weighs less than 300 KB.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES = Path(__file__).parent / "images"
SIZES = {"page": (1280, 800, 1.0), "page-phone": (390, 844, 2.0)}
"""Name to width and height in CSS pixels, and pixels of the picture for each of them."""
SCHEMES = {"": "light", "-dark": "dark"}
COLOURS = 256
LARGEST = 300_000
"""Bytes."""


def browser() -> Any:
    """Headless Chromium, as Debian has it; ends the program where it is not installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        sys.exit("needs Chromium and its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def picture(chrome: Any, page: Path, size: tuple[int, int, float], scheme: str) -> bytes:
    """What a device of this size and colour scheme shows of the page first, as PNG."""
    width, height, scale = size
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chrome.get("about:blank")
    chrome.get(page.as_uri())
    shot = base64.b64decode(chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    reduced = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = io.BytesIO()
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path, help="page.html of a study's report")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    page = options.page.resolve()
    if not page.is_file():
        sys.exit(f"there is no page {page}; `ablator run` or `ablator report` writes it")
    chrome = browser()
    try:
        for name, size in SIZES.items():
            for suffix, scheme in SCHEMES.items():
                content = picture(chrome, page, size, scheme)
                path = options.output / f"{name}{suffix}.png"
                if len(content) > LARGEST:
                    sys.exit(f"{path.name} would weigh {len(content):,} bytes, more than {LARGEST:,}")
                path.write_bytes(content)
                print(f"{path}: {len(content) / 1e3:.0f} KB")
    finally:
        chrome.quit()


if __name__ == "__main__":
    main()
