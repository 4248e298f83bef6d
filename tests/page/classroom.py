"""Somebody in front of a class page: what they do, and what they see and hear."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from playwright.async_api import Locator, Page, expect

from loadtest.server import Server
from tests.chat.person import Person
from tests.classes.room import Room
from tests.page.visitor import Visitor, Visitors

FLAGS = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--auto-select-desktop-capture-source=Entire screen",
    "--disable-background-networking",
]
LOOPBACK = "--allow-loopback-in-peer-connection"

# As the fake device does for cameras: a picture that moves.
FAKE_SCREEN = """
navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = document.createElement('canvas');
    canvas.width = 320;
    canvas.height = 200;
    const context = canvas.getContext('2d');
    setInterval(() => {
        context.fillStyle = `hsl(${Date.now() / 10 % 360} 80% 50%)`;
        context.fillRect(0, 0, 320, 200);
    }, 50);
    return canvas.captureStream(15);
};
"""


# A page that sends on whatever it is told, and shows whatever it gets.
CHEAT = """
MediaStreamTrack.prototype.stop = () => {};
RTCPeerConnection.prototype.close = () => {};
window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...all) {
        super(...all);
        window.connections.push(this);
    }
};
"""


class Attendee:
    """One person at the page of a class."""

    def __init__(self, visitor: Visitor, person: Person, room: Room) -> None:
        self.visitor = visitor
        self.page: Page = visitor.page
        self.person = person
        self.room = room

    @property
    def login(self) -> str:
        """The script that signs them in."""
        login = {
            "access": self.person.token,
            "refresh": "none",
            "until": 10**14,
            "user": {"id": self.person.id, "name": self.person.name, "email": ""},
        }
        return f"localStorage.setItem('chalkwire.login', '{json.dumps(login)}')"

    async def come(self, *, cheats: bool = False) -> None:
        """Open the page with the person's login, and come in as far as the class lets them."""
        await self.page.add_init_script(FAKE_SCREEN)
        if cheats:
            await self.page.add_init_script(CHEAT)
        await self.page.add_init_script(self.login)
        await self.page.goto(self.visitor.server.url(f"/#/class/{self.room.id}", self.visitor.node))

    async def is_in(self) -> None:
        await self.page.locator('.class-page[data-status="in"][data-connection="connected"]').wait_for()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def press(self, name: str) -> None:
        await self.button(name).click()

    async def says(self, text: str, to: str = "Everybody") -> None:
        await self.page.get_by_label("To", exact=True).select_option(label=to)
        await self.page.get_by_label("Message to the class").fill(text)
        await self.page.get_by_role("button", name="Send").click()

    async def reads(self, text: str) -> None:
        await expect(self.page.locator(".class-lines li", has_text=text)).to_have_count(1)

    async def hears(self, text: str) -> None:
        """Wait until it has been said in a live region."""
        await expect(
            self.page.get_by_role("log", name="What has happened").get_by_text(text, exact=True).last
        ).to_be_visible()

    async def chooses(self, other: Attendee, what: str) -> None:
        """From the menu about somebody."""
        await self.press(f"More about {other.person.name}")
        await self.page.get_by_role("menuitem", name=what, exact=True).click()

    async def confirms(self, what: str) -> None:
        await self.page.get_by_role("dialog").get_by_role("button", name=what, exact=True).click()

    def tile(self, other: Attendee, kind: str) -> Locator:
        return self.page.locator(f'.class-tile[data-user="{other.person.id}"][data-kind="{kind}"]')

    async def received(self, other: Attendee, kind: str) -> float:
        """Frames of video, or packets of sound, that have come from somebody."""
        return float(
            await self.page.evaluate(
                """async ([user, kind]) => {
                    const track = window.classroom.media?.received.get(user)?.get(kind);
                    if (!track || track.readyState !== 'live') return -1;
                    const all = await window.classroom.media.stats(user);
                    const mine = all.find((each) => each.trackIdentifier === track.id);
                    return mine ? (mine.kind === 'video' ? mine.framesDecoded : mine.packetsReceived) ?? 0 : -1;
                }""",
                [other.person.id, kind],
            )
        )

    async def gets(self, other: Attendee, kind: str, more: int = 10, seconds: float = 30) -> None:
        """Wait until more frames of somebody's track have come than now: the picture moves."""
        async with asyncio.timeout(seconds):
            before = -1.0
            while before < 0:
                before = await self.received(other, kind)
                await asyncio.sleep(0.05)
            while await self.received(other, kind) < before + more:
                await asyncio.sleep(0.05)

    async def gets_no(self, other: Attendee, kind: str) -> None:
        """Wait until nothing of somebody's track comes any more."""
        async with asyncio.timeout(30):
            while await self.received(other, kind) >= 0:
                await asyncio.sleep(0.05)

    async def gets_anew(self, other: Attendee, kind: str, before: float) -> None:
        """Wait for another track of somebody's than that of `before`, and for its frames."""
        async with asyncio.timeout(30):
            while await self.track(other, kind) in (before, 0):
                await asyncio.sleep(0.1)
        await self.gets(other, kind)

    async def track(self, other: Attendee, kind: str) -> float:
        """A number that is somebody's present track's own, 0 where there is none. (Janus names all alike.)"""
        script = """([user, kind]) => {
            const track = window.classroom.media?.received.get(user)?.get(kind);
            return track ? (track.number ??= Math.random()) : 0;
        }"""
        return float(await self.page.evaluate(script, [other.person.id, kind]))

    async def is_cut_off(self) -> None:
        """Wait until the other side has ended every connection that a page which cheats ever had."""
        script = """window.connections.every((each) => {
            const transports = [...each.getSenders(), ...each.getReceivers()].map(({ transport }) => transport);
            return transports.every((transport) => !transport || ['closed', 'failed'].includes(transport.state));
        })"""
        while not await self.page.evaluate(script):
            await asyncio.sleep(0.05)

    async def frames(self) -> float:
        """Frames that have come to a page that cheats, by all connections it ever had."""
        script = """async () => {
            let frames = 0;
            for (const connection of window.connections) {
                for (const each of (await connection.getStats()).values()) {
                    if (each.type === 'inbound-rtp') frames += each.framesReceived ?? 0;
                }
            }
            return frames;
        }"""
        return float(await self.page.evaluate(script))

    async def state(self) -> dict[str, Any]:
        return dict(await self.page.evaluate("window.classroom.room.state"))

    async def sees(self, expression: str, seconds: float = 15) -> None:
        """Wait until the class as this page has it is so; `state` in a JavaScript expression."""
        script = f"(() => {{ const state = window.classroom?.room.state; return Boolean(state && ({expression})); }})()"
        async with asyncio.timeout(seconds):
            while not await self.page.evaluate(script):  # the page's policy forbids what waits inside it
                await asyncio.sleep(0.02)


async def attend(visitors: Visitors, server: Server, room: Room, *people: Person, cheats: str = "") -> list[Attendee]:
    """These people at their browsers, on the nodes of their devices. `cheats`: names of those whose pages do."""
    attendees = []
    for person in people:
        visitor = await visitors.one(person.name, node=person.node, server=server, permissions=["camera", "microphone"])
        attendee = Attendee(visitor, person, room)
        await attendee.come(cheats=person.name in cheats.split())
        attendees.append(attendee)
    return attendees
