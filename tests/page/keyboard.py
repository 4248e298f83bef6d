"""Somebody without a mouse: keys alone, and what a screen reader would say of where they are."""

from __future__ import annotations

from playwright.async_api import expect

from tests.page.classroom import Attendee

STOPS = 150  # presses of the Tab key, more than a page has stops

# Where the focus is: its name, and those beside it in its toolbar, which arrow keys reach.
WHERE = """
() => {
    const name = (each) => each.getAttribute('aria-label')
        ?? (each.labels?.length ? each.labels[0].firstChild.textContent : each.textContent);
    const focused = document.activeElement;
    const toolbar = focused.closest('[role=toolbar]');
    return { name: name(focused), tag: focused.tagName, beside: toolbar ? [...toolbar.children].map(name) : [] };
}
"""


class Keyboard:
    def __init__(self, attendee: Attendee) -> None:
        self.attendee = attendee
        self._page = attendee.page

    async def at(self) -> str:
        """The name of what has the focus."""
        return str((await self._page.evaluate(WHERE))["name"])

    async def reach(self, name: str) -> None:
        """Go on by Tab, and by arrow keys in toolbars, until it has the focus."""
        await expect(self._page.locator("main")).to_be_visible()
        for _ in range(STOPS):
            where = await self._page.evaluate(WHERE)
            if where["name"] == name:
                return
            await self.press("ArrowRight" if name in where["beside"] else "Tab")
        raise AssertionError(f"{name!r} cannot be reached by keys")

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self._page.keyboard.press(key)

    async def use(self, name: str, key: str = "Enter") -> None:
        await self.reach(name)
        await self.press(key)

    async def write(self, where: str, text: str) -> None:
        await self.reach(where)
        for line, key in zip(text.split("\n"), ["Enter"] * text.count("\n") + [""], strict=True):
            await self._page.keyboard.type(line)
            if key:
                await self.press(key)

    async def is_at(self, name: str) -> None:
        """Wait until it has the focus. Raises AssertionError."""
        for _ in range(300):
            if await self.at() == name:
                return
            await self._page.wait_for_timeout(50)
        raise AssertionError(f"the focus is at {await self.at()!r}, not {name!r}")
