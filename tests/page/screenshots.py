"""The pictures of docs/screenshots, of the demo's people: python -m tests.page.screenshots"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, async_playwright

from config.embedded import read_urls
from gateway_node.demo import DOMAIN, password_of, seed
from loadtest.server import Server
from tests.page.conftest import BROWSERS, SETTINGS
from tests.page.visitor import Visitor, Visitors
from tests.stack import short_folder

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SECRET = "the pictures'"
MOST = 150_000  # bytes of a picture
DESKTOP = {"viewport": {"width": 1200, "height": 760}}
PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "is_mobile": True, "has_touch": True}


async def take(visitor: Visitor, name: str) -> None:
    """At its end, with all that is on its way; in 256 colours, of which nobody sees that they are so few."""
    page = visitor.page
    await page.locator(".picture.loading").first.wait_for(state="detached")
    await page.mouse.move(0, 0)
    await page.evaluate("document.querySelector('.scroller').scrollTop = 1e9")
    await page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(await page.screenshot()))
    few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.png"
    few.save(path, optimize=True)
    assert path.stat().st_size < MOST, f"{path.name} has {path.stat().st_size} bytes"


async def show(browser: Browser, server: Server) -> None:
    visitors = Visitors(browser, server)
    ada = await visitors.one("Ada", color_scheme="light", **DESKTOP)
    dan = await visitors.one("Dan", node=1, color_scheme="dark", **DESKTOP)
    emma = await visitors.one("Emma", node=1, color_scheme="light", **PHONE)
    for visitor, key in ((ada, "ada"), (dan, "dan"), (emma, "emma")):
        await visitor.sign_in(f"{key}@{DOMAIN}", password_of(SECRET))
        await visitor.open("Physics 8b")
    await dan.send("Me! I sit in front, so that I can film")
    await ada.sees("I sit in front")
    await emma.sees("I sit in front")
    await dan.show_members()
    await emma.page.reload()  # without the line above what was new
    await emma.in_room("Physics 8b")
    await emma.composer.press_sequentially("See")
    await ada.page.get_by_text("is typing").first.wait_for()
    await take(ada, "chat")
    await take(dan, "dark")
    await take(emma, "phone")


async def main() -> None:
    browsers = [path for name in BROWSERS if (path := shutil.which(name))]
    if not browsers:
        raise SystemExit("Chromium is wanted, and not installed.")
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as server:
        await asyncio.to_thread(seed, server.url(""), SECRET, str(read_urls(server.data_dir).database))
        async with async_playwright() as playwright:
            arguments = ["--no-sandbox"] if os.getuid() == 0 else []
            browser = await playwright.chromium.launch(executable_path=browsers[0], args=arguments)
            await show(browser, server)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
