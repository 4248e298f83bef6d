"""Files at the page: dragged, pasted, chosen; shown, enlarged, saved."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import expect

from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


def picture(width: int = 640, height: int = 480) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def dragged(name: str, type: str, content: bytes) -> dict[str, str]:
    return {"name": name, "type": type, "base64": base64.b64encode(content).decode()}


async def test_an_image_is_dragged_into_the_talk(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await bo.open("Ana")
    await ana.drop(dragged("sunset.png", "image/png", picture()))
    await expect(ana.page.locator(".attachment")).to_contain_text("sunset.png")
    await ana.send("Look at this")
    for each in (ana, bo):
        await each.sees("Look at this")
        image = each.page.get_by_role("img", name="sunset.png")
        await expect(image).to_have_attribute("src", re.compile("^blob:"))
        size = await image.evaluate(
            "async (image) => (await image.decode(), [image.naturalWidth, image.naturalHeight])"
        )
        assert size == [400, 300]
    await expect(ana.page.locator(".attachment")).to_have_count(0)
    await bo.page.get_by_role("button", name="Open sunset.png").click()
    whole = bo.page.get_by_role("dialog").get_by_role("img")
    await expect(whole).to_have_attribute("src", re.compile("^blob:"))
    assert await whole.evaluate("async (image) => (await image.decode(), image.naturalWidth)") == 640


async def test_a_file_is_chosen_and_saved(visitors: Visitors, tmp_path: Path) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    (tmp_path / "notes of today.txt").write_text("one\ntwo\n")
    await ana.message(bo)
    async with ana.page.expect_file_chooser() as chooser:
        await ana.page.get_by_role("button", name="Attach files").click()
    await (await chooser.value).set_files(tmp_path / "notes of today.txt")
    await ana.page.get_by_role("button", name="Send").click()
    await bo.open("Ana")
    async with bo.page.expect_download() as download:
        await bo.page.get_by_role("button", name="Download notes of today.txt").click()
    saved = await download.value
    assert saved.suggested_filename == "notes of today.txt"
    assert Path(await saved.path()).read_text() == "one\ntwo\n"
    await expect(bo.room("Ana")).to_contain_text("notes of today.txt")


async def test_how_far_an_upload_is_shows(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    network = await ana.page.context.new_cdp_session(ana.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    await network.send("Network.emulateNetworkConditions", slow)
    await ana.drop(dragged("big.bin", "application/octet-stream", bytes(2_000_000)))
    bar = ana.page.get_by_role("progressbar", name="Upload of big.bin")
    await ana.page.wait_for_function("(bar) => bar.value > 0 && bar.value < 1", arg=await bar.element_handle())
    await network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    await expect(bar).to_be_hidden()
    await ana.page.get_by_role("button", name="Send").click()
    await bo.open("Ana")
    await expect(bo.page.get_by_role("button", name="Download big.bin")).to_be_visible()


async def test_an_image_is_pasted_and_thought_better_of(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.composer.evaluate(
        """(element, base64) => {
            const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], 'image.png', { type: 'image/png' }));
            element.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(picture()).decode(),
    )
    await expect(ana.page.locator(".attachment img")).to_be_visible()
    await ana.page.get_by_role("button", name="Remove image.png").click()
    await expect(ana.page.locator(".attachments")).to_be_hidden()
    await expect(ana.page.get_by_role("button", name="Send")).to_be_disabled()


async def test_an_upload_that_fails_says_why(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    ana.excused = re.compile("status of 422")
    await ana.message(bo)
    await ana.drop(dragged("nothing.txt", "text/plain", b""))
    await expect(ana.page.locator(".attachment.failed")).to_contain_text("empty")
    await ana.send("with a broken file")
    await expect(ana.composer).to_have_value("with a broken file")
    await ana.page.get_by_role("button", name="Remove nothing.txt").click()
    await ana.composer.press("Enter")
    await ana.sees("with a broken file")


async def test_a_page_as_a_file_is_no_page(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.drop(dragged("x.svg", "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"))
    await ana.drop(dragged("x.html", "text/html", b"<script>alert(1)</script>"))
    await ana.page.get_by_role("button", name="Send").click()
    await bo.open("Ana")
    await expect(bo.page.locator("article .file")).to_have_count(2)
    assert await bo.page.locator("article img").count() == 0
