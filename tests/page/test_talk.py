"""Two people talk, each at a page of their own, on two nodes."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


async def test_a_direct_talk(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("Hello Bo")
    await ana.stored("Hello Bo")
    await expect(bo.room("Ana")).to_contain_text("Hello Bo")
    await bo.open("Ana")
    await bo.sees("Hello Bo")
    await bo.send("Hello Ana\nhow are you?")
    await ana.sees(re.compile("how are you"))
    assert await ana.texts() == await bo.texts() == ["Hello Bo", "Hello Ana\nhow are you?"]


async def test_who_is_here_types_and_has_read(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await expect(ana.page.locator(".head")).to_contain_text("online")
    await ana.send("Are you there?")
    await ana.stored("Are you there?")
    await expect(ana.page.locator(".seen")).to_have_count(0)
    await bo.open("Ana")
    await expect(ana.page.locator(".seen")).to_have_text("Seen")
    await expect(ana.bubble("Are you there?").locator(".ticks")).to_have_attribute("aria-label", "Read")
    await bo.composer.press_sequentially("Y")
    await expect(ana.page.locator(".typing-line")).to_have_text("typing…")
    await expect(ana.room("Bo")).to_contain_text("typing…")
    await bo.send("Yes")
    await ana.sees("Yes")
    await expect(ana.page.locator(".typing-line")).to_be_empty()
    await bo.page.goto("about:blank")
    await expect(ana.page.locator(".head")).not_to_contain_text("online")


async def test_a_message_is_edited_and_deleted(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("Helo")
    await bo.open("Ana")
    await ana.stored("Helo")
    await ana.choose("Helo", "Edit")
    await ana.send("Hello")
    edited = await bo.sees("Hello")
    await expect(edited.locator(".meta")).to_contain_text("edited")
    await ana.composer.press("ArrowUp")
    await expect(ana.composer).to_have_value("Hello")
    await ana.composer.press("Escape")
    await expect(ana.composer).to_have_value("")
    await ana.choose("Hello", "Delete")
    await ana.confirm("Delete")
    await bo.sees("Message deleted")
    await bo.sees("Hello", 0)
    await ana.page.reload()
    await ana.sees("Message deleted")
    await expect(bo.room("Ana")).to_contain_text("Message deleted")


async def test_a_click_counts_whatever_comes_meanwhile(visitors: Visitors) -> None:
    """A message that changes between press and release is drawn anew after the click."""
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    async with ana.page.expect_websocket() as opened:
        await ana.page.reload()
    line = await opened.value
    await ana.connected()
    await ana.send("Hello")
    await ana.stored("Hello")
    await bo.open("Ana")
    await bo.sees("Hello")
    await ana.bubble("Hello").hover()
    await ana.bubble("Hello").get_by_role("button", name="More", exact=True).hover()
    await ana.page.mouse.down()
    async with line.expect_event("framereceived", lambda frame: "reaction_added" in str(frame)):
        await bo.act("Hello", "React with 👍")
    await ana.page.evaluate("new Promise((drawn) => setTimeout(drawn, 100))")
    await ana.page.mouse.up()
    await expect(ana.page.get_by_role("menuitem", name="Delete")).to_be_visible()
    await expect(ana.page.locator(".reaction")).to_contain_text("👍")


async def test_reactions(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("Cake?")
    await bo.open("Ana")
    await bo.sees("Cake?")
    await bo.act("Cake?", "React")
    await bo.page.locator(".picker").get_by_role("button", name="🎂").click()
    reaction = ana.page.get_by_role("button", name=re.compile("🎂, 1: Bo"))
    await reaction.click()
    await expect(bo.page.locator(".reaction .count")).to_have_text("2")
    await expect(bo.page.locator(".reaction")).to_have_attribute("aria-pressed", "true")
    await ana.page.locator(".reaction").click()
    await bo.page.locator(".reaction", has_text="1").click()
    await expect(ana.page.locator(".reaction")).to_have_count(0)


async def test_an_answer_names_what_it_answers(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("Tea or coffee?")
    await bo.open("Ana")
    await bo.sees("Tea or coffee?")
    await bo.act("Tea or coffee?", "Reply")
    await expect(bo.page.locator(".context")).to_contain_text("Reply to Ana")
    await bo.send("Tea")
    quote = ana.page.locator("article", has=ana.page.locator(".content", has_text=re.compile("^Tea$"))).locator(
        ".quote"
    )
    await expect(quote).to_contain_text("Tea or coffee?")
    await quote.click()
    await expect(ana.bubble("Tea or coffee?")).to_be_focused()


async def test_pins(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("The door code is 1234")
    await bo.open("Ana")
    await bo.sees("The door code is 1234")
    await bo.choose("The door code is 1234", "Pin")
    await expect(ana.page.locator(".pinned")).to_contain_text("The door code is 1234")
    await ana.page.locator(".pinned").click()
    await expect(ana.page.locator(".side .line")).to_contain_text("The door code is 1234")
    await ana.choose("The door code is 1234", "Unpin")
    await expect(bo.page.locator(".pinned")).to_have_count(0)


async def test_unread_counts_and_mentions(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Team", bo)
    await ana.send("one")
    await ana.stored("one")
    await ana.composer.press_sequentially("ask @Bo")
    await ana.page.get_by_role("option", name="Bo").wait_for()
    await ana.composer.press("Enter")
    await expect(ana.composer).to_have_value("ask @Bo ")
    await ana.composer.press("Enter")
    await expect(bo.room("Team").locator(".badge:not(.mention)")).to_have_text("2")
    await expect(bo.room("Team").locator(".badge.mention")).to_be_visible()
    assert await bo.page.title() == "(2) Chalkwire"
    await bo.page.reload()
    await expect(bo.room("Team").locator(".badge:not(.mention)")).to_have_text("2")
    await bo.open("Team")
    await expect(bo.page.locator(".unread-line")).to_be_visible()
    await expect(bo.room("Team").locator(".badge")).to_have_count(0)
    await expect(bo.page.locator(".mention.own")).to_have_text("@Bo")
    await expect(ana.page.locator(".seen")).to_have_text("Seen by Bo")
    await bo.page.reload()
    await bo.in_room("Team")
    await expect(bo.room("Team").locator(".badge")).to_have_count(0)


async def test_reading_on_one_device_counts_on_the_other(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("Hello")
    other = await bo.page.context.new_page()
    await other.goto(bo.server.url("/", bo.node))
    await expect(other.locator(".badge")).to_have_text("1")
    await bo.page.bring_to_front()
    await bo.open("Ana")
    await expect(other.locator(".badge")).to_have_count(0)


async def test_a_script_in_a_message_stays_text(visitors: Visitors) -> None:
    ana, bo = await visitors.registered('<img src=x onerror="alert(1)">', "Bo")
    await bo.message(ana)
    lines = [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(2)">',
        "javascript:alert(3)",
        "[x](javascript:alert(4))",
        "<a href='https://x.example' onclick='alert(5)'>click</a>",
        "&lt;b&gt; \u202e reversed \u2066",
    ]
    for line in lines:
        await bo.send(line)
    await ana.open("Bo")
    await ana.sees(re.compile("reversed"))
    await expect(ana.page.locator("article .content")).to_have_text(lines)
    assert await ana.page.locator("article script, article img, article [onclick]").count() == 0
    assert await ana.page.locator("article a").evaluate_all("(links) => links.map((link) => link.href)") == [
        "https://x.example/"
    ]


async def test_a_name_that_turns_the_direction_leaves_sentences_alone(visitors: Visitors) -> None:
    eve, bo = await visitors.registered("\u202eEve", "Bo")
    await eve.create_group("Turned", bo)
    await eve.send("hello")
    await bo.open("Turned")
    await expect(bo.page.locator(".system").last).to_have_text("Eve added you")
    await expect(bo.room("Turned").locator(".room-last")).to_have_text("Eve: hello")


async def test_nobody_looks_as_if_they_typed_by_saying_so(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("… typing…")
    line = bo.room("Ana").locator(".room-last")
    await expect(line).to_have_text("… typing…")
    await expect(line).not_to_have_class(re.compile("typing"))
    await ana.choose("… typing…", "Delete")
    await ana.confirm("Delete")
    await expect(line).to_have_text("Message deleted")
    await expect(ana.page.locator("article.deleted .ticks")).to_have_count(0)


async def test_links_open_apart(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("see https://example.org/a?b=c.")
    await bo.open("Ana")
    link = bo.page.get_by_role("link", name="https://example.org/a?b=c")
    await expect(link).to_have_attribute("href", "https://example.org/a?b=c")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_have_attribute("rel", re.compile("noopener"))


async def test_a_long_message_is_folded(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.composer.evaluate(
        """(element, text) => {
            const clipboardData = new DataTransfer();
            clipboardData.setData('text/plain', text);
            element.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
        }""",
        "\n".join("x" if number % 2 else "" for number in range(10_000)) + "\nend",
    )
    await ana.composer.press("Enter")
    await bo.open("Ana")
    bubble = bo.page.locator("article.message")
    await expect(bubble).to_have_count(1)
    box = await bubble.bounding_box()
    assert box is not None
    assert box["height"] < 600
    await bubble.get_by_role("button", name="Show more").click()
    box = await bubble.bounding_box()
    assert box is not None
    assert box["height"] > 50_000
    await bubble.get_by_role("button", name="Show less").click()
    width = await bo.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width == 0


async def test_right_to_left(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "דנה")
    await ana.message(bo)
    await ana.send("שלום עולם")
    await bo.open("Ana")
    content = bo.bubble("שלום עולם").locator(".content")
    assert await content.evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    await expect(ana.page.locator(".head bdi")).to_have_text("דנה")


async def test_history_comes_as_one_scrolls(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("number 0")
    await ana.stored("number 0")
    room = await ana.page.evaluate("location.hash.split('/').at(-1)")
    token = await ana.page.evaluate("JSON.parse(localStorage.getItem('chalkwire.login')).access")
    for number in range(1, 180):
        await ana.page.request.post(
            ana.server.url(f"/v1/rooms/{room}/messages"),
            data={"content": f"number {number}", "type": "text"},
            headers={"Authorization": f"Bearer {token}"},
        )
    await ana.sees(re.compile("^number 179$"))
    await bo.open("Ana")
    await bo.sees(re.compile("^number 179$"))
    loaded = bo.page.locator("article.message")
    assert await loaded.count() < 120
    # It stays where it is while more is put above it.
    for _ in range(12):
        first = await bo.page.evaluate(
            """() => {
                const scroller = document.querySelector('.scroller');
                scroller.scrollTop = 0;
                return document.querySelector('article .content').textContent;
            }"""
        )
        if first == "number 0":
            break
        await bo.page.wait_for_function(
            "(first) => document.querySelector('article .content').textContent !== first", arg=first
        )
    assert await bo.texts() == [f"number {number}" for number in range(180)]
    await bo.page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await ana.send("number 180")
    await bo.sees(re.compile("^number 180$"))
    assert await bo.page.evaluate("document.querySelector('.scroller').scrollTop") < 100
    await bo.page.get_by_role("button", name="Go to the newest message").click()
    await expect(bo.bubble(re.compile("^number 180$"))).to_be_in_viewport()


async def test_search_leads_to_the_message(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("The quick brown fox")
    await ana.stored("The quick brown fox")
    await ana.send("jumps over the lazy dog")
    await ana.stored("jumps over the lazy dog")
    await bo.page.get_by_role("button", name="Search messages").click()
    await bo.page.get_by_role("searchbox", name="Search messages").fill("brown")
    result = bo.page.locator(".side .line")
    await expect(result).to_contain_text("The quick brown fox")
    await expect(result.locator("mark")).to_have_text("brown")
    await result.click()
    await bo.in_room("Ana")
    await expect(bo.bubble("The quick brown fox")).to_be_focused()
    await bo.page.get_by_role("button", name="Search in this room").click()
    await bo.page.get_by_role("searchbox", name="Search messages").fill("nowhere")
    await expect(bo.page.locator(".side")).to_contain_text("Nothing found.")


async def test_a_reload_in_mid_conversation(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("before")
    await bo.open("Ana")
    await bo.sees("before")
    await bo.page.reload(wait_until="commit")
    await ana.send("meanwhile")
    await bo.in_room("Ana")
    await bo.sees("meanwhile")
    await bo.send("after")
    await ana.sees("after")
    assert await ana.texts() == await bo.texts() == ["before", "meanwhile", "after"]


async def test_on_a_phone_one_thing_at_a_time(visitors: Visitors) -> None:
    (ana,) = await visitors.registered("Ana")
    bo = await visitors.one("Bo", node=1, viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    await bo.register()
    await ana.message(bo)
    await ana.send("Hello")
    await expect(bo.page.locator(".conversation")).to_have_count(0)
    await bo.open("Ana")
    await expect(bo.page.get_by_role("navigation", name="Rooms")).to_be_hidden()
    await bo.sees("Hello")
    assert await bo.page.evaluate("document.documentElement.scrollWidth") == 390
    await bo.bubble("Hello").tap()
    await bo.bubble("Hello").get_by_role("button", name="Reply").tap()
    await bo.send("Hi")
    await ana.sees("Hi")
    await bo.page.get_by_role("link", name="Back to the rooms").tap()
    await expect(bo.room("Ana")).to_be_visible()
    await expect(bo.page.locator(".conversation")).to_have_count(0)


async def test_by_keyboard_alone(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.message(bo)
    await ana.send("Hello")
    page = bo.page
    await bo.room("Ana").focus()
    await page.keyboard.press("Enter")
    await bo.in_room("Ana")
    await expect(bo.composer).to_be_focused()
    await page.locator(".scroller").focus()
    await page.keyboard.press("ArrowUp")
    await expect(bo.bubble("Hello")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(ana.page.locator(".reaction")).to_contain_text("👍")
    await page.get_by_role("button", name="Details").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".side .panel")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(".side .panel")).to_have_count(0)
