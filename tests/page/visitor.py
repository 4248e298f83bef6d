"""Somebody in front of the page: what they do with it, and what they see."""

from __future__ import annotations

import re
import secrets
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Dialog, Locator, Page, expect

from loadtest.server import Server

PASSWORD = "correct horse battery"
PATIENCE = 15_000  # ms: other tests may keep the machine busy

# Reported as they happen in the page, because a policy that bites is easily missed in the console.
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
"""

# The banner may come and go between two looks at it.
BANNERS = """
const banner = document.querySelector('.banner');
window.banners = [banner.textContent];
new MutationObserver(() => window.banners.push(banner.textContent)).observe(banner, { childList: true, subtree: true });
"""

expect.set_options(timeout=PATIENCE)


class Visitor:
    """One person in a browser context of their own, on one node."""

    def __init__(self, page: Page, server: Server, node: int | None, name: str) -> None:
        self.page = page
        self.server = server
        self.node = node
        self.name = name
        self.email = f"{secrets.token_hex(6)}@example.org"
        self.errors: list[str] = []
        self.excused: re.Pattern[str] | None = None  # errors that the test brings about
        page.set_default_timeout(PATIENCE)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("dialog", self._dialog)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    async def _dialog(self, dialog: Dialog) -> None:
        self.errors.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    async def check(self) -> None:
        """Nothing went wrong that the test did not bring about itself."""
        violations = await self.page.evaluate("window.violations")
        errors = [each for each in self.errors if not (self.excused and self.excused.search(each))]
        assert not errors + violations, f"{self.name}: {errors + violations}"

    # --- coming and going --------------------------------------------------------------------------------------

    async def visit(self) -> None:
        await self.page.goto(self.server.url("/", self.node))

    async def register(self) -> None:
        await self.visit()
        await self.page.get_by_role("button", name="Create an account").click()
        await self.page.get_by_label("Name", exact=True).fill(self.name)
        await self.page.get_by_label("Email").fill(self.email)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name="Create account").click()
        await self.connected()

    async def sign_in(self, email: str, password: str) -> None:
        await self.visit()
        await self.page.get_by_label("Email").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.connected()

    async def connected(self) -> None:
        await self.page.locator('.shell[data-connection="connected"]').wait_for()

    async def watch_banner(self) -> None:
        """Keep what the banner says from here on, for `banners`."""
        await self.page.evaluate(BANNERS)

    async def banners(self) -> list[str]:
        return list(await self.page.evaluate("window.banners"))

    # --- rooms -------------------------------------------------------------------------------------------------

    async def message(self, other: Visitor) -> None:
        """Open the direct room with somebody."""
        await self.begin("Message somebody")
        await self.find(other.email)
        await self.found(other.name)
        await self.in_room(other.name)

    async def create_group(self, title: str, *members: Visitor, open: bool = False) -> None:
        await self.begin("New group")
        await self.page.get_by_label("Title").fill(title)
        if open:
            await self.page.get_by_label("Everybody may find and join it").check()
        for member in members:
            await self.find(member.email)
            await self.found(member.name)
        await self.page.get_by_role("button", name="Create group").click()
        await self.in_room(title)

    async def begin(self, what: str) -> None:
        await self.page.get_by_role("button", name="New conversation").click()
        await self.page.get_by_role("menuitem", name=what).click()

    async def find(self, query: str) -> None:
        await self.page.get_by_role("dialog").get_by_role("searchbox").fill(query)

    async def found(self, name: str) -> None:
        await self.page.get_by_role("dialog").locator(".found-one", has_text=name).click()

    def room(self, title: str) -> Locator:
        """The room's line in the list."""
        return self.page.locator(".room", has=self.page.locator(".room-title", has_text=title))

    async def open(self, title: str) -> None:
        await self.room(title).click()
        await self.in_room(title)

    async def in_room(self, title: str) -> None:
        await expect(self.page.locator(".head h2")).to_have_text(title)
        await expect(self.page.locator(".scroller")).to_have_attribute("aria-busy", "false")

    async def show_members(self) -> Locator:
        await self.page.get_by_role("button", name="Members").click()
        return self.page.locator(".side .panel")

    async def do_with(self, member: str, what: str) -> None:
        """Choose something from a member's menu in the panel."""
        await self.page.get_by_role("button", name=f"What to do with {member}").click()
        await self.page.get_by_role("menuitem", name=what, exact=True).click()

    async def confirm(self, action: str) -> None:
        await self.page.get_by_role("dialog").get_by_role("button", name=action).click()

    # --- messages ----------------------------------------------------------------------------------------------

    @property
    def composer(self) -> Locator:
        return self.page.get_by_role("combobox", name="Write a message")

    async def send(self, text: str) -> None:
        await self.composer.fill(text)
        await self.composer.press("Enter")

    def bubble(self, text: str | re.Pattern[str]) -> Locator:
        """The message that says this."""
        return self.page.locator("article.message", has=self.page.locator(".content", has_text=text))

    async def sees(self, text: str | re.Pattern[str], count: int = 1) -> Locator:
        """Wait for a message in the open room."""
        found = self.bubble(text)
        await expect(found).to_have_count(count)
        return found

    async def stored(self, text: str) -> None:
        """Wait until one's own message has its tick."""
        await self.bubble(text).locator(".ticks:not([aria-label=Sending])").wait_for()

    async def texts(self) -> list[str]:
        """What the messages of the open room say, in their order."""
        return await self.page.locator("article.message .content").all_inner_texts()

    async def act(self, text: str, action: str) -> None:
        """A button of a message's toolbar."""
        bubble = self.bubble(text)
        await bubble.hover()
        await bubble.get_by_role("button", name=action, exact=True).click()

    async def choose(self, text: str, what: str) -> None:
        """An entry of a message's menu."""
        await self.act(text, "More")
        await self.page.get_by_role("menuitem", name=what, exact=True).click()

    async def drop(self, *files: dict[str, Any]) -> None:
        """Drag files ({name, type, base64}) from elsewhere onto the conversation, and let go."""
        transfer = await self.page.evaluate_handle(
            """(files) => {
                const transfer = new DataTransfer();
                for (const { name, type, base64 } of files) {
                    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
                    transfer.items.add(new File([bytes], name, { type }));
                }
                return transfer;
            }""",
            list(files),
        )
        for event in ("dragenter", "dragover", "drop"):
            await self.page.dispatch_event(".scroller", event, {"dataTransfer": transfer})


class Visitors:
    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser = browser
        self._server = server
        self._all: list[Visitor] = []

    async def one(self, name: str, *, node: int | None = 0, server: Server | None = None, **context: Any) -> Visitor:
        """Somebody who has not signed in yet."""
        opened = await self._browser.new_context(locale="en-US", timezone_id="Europe/Berlin", **context)
        await opened.add_init_script(WATCH)
        visitor = Visitor(await opened.new_page(), server or self._server, node, name)
        self._all.append(visitor)
        return visitor

    async def registered(self, *names: str, **more: Any) -> list[Visitor]:
        """People with an account, on one node after the other."""
        visitors = [await self.one(name, node=index % 2, **more) for index, name in enumerate(names)]
        for visitor in visitors:
            await visitor.register()
        return visitors

    async def leave(self) -> None:
        for visitor in self._all:
            await visitor.check()
