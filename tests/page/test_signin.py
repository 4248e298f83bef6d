"""Accounts at the page: making one, signing in, staying signed in, signing out."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from loadtest.server import Server
from tests.invariants.conftest import poll
from tests.page.visitor import PASSWORD, Visitors
from tests.post.mailbox import Mailbox, link_in

pytestmark = pytest.mark.integration

END_TOKEN = """() => {
    const login = JSON.parse(localStorage.getItem('chalkwire.login'));
    localStorage.setItem('chalkwire.login', JSON.stringify({ ...login, until: 0 }));
}"""


async def test_register_reload_and_sign_out(visitors: Visitors) -> None:
    (ana,) = await visitors.registered("Ana")
    await expect(ana.page.locator(".me")).to_contain_text("Ana")
    await ana.page.reload()
    await ana.connected()
    login = await ana.page.evaluate("JSON.parse(localStorage.getItem('chalkwire.login'))")
    await ana.page.evaluate("sessionStorage.setItem('written but not sent', 'x')")
    await ana.page.get_by_role("button", name="Account").click()
    await ana.page.get_by_role("menuitem", name="Sign out").click()
    await expect(ana.page.get_by_role("heading", name="Chalkwire")).to_be_visible()
    assert await ana.page.evaluate("localStorage.length + sessionStorage.length") == 0

    async def is_refused() -> bool:
        me = await ana.page.request.get(
            ana.server.url("/v1/me", ana.node), headers={"Authorization": f"Bearer {login['access']}"}
        )
        return me.status == 401

    await poll(is_refused, "the login has ended at the server too")
    await ana.page.get_by_label("Email").fill(ana.email)
    await ana.page.get_by_label("Password").fill(PASSWORD)
    await ana.page.get_by_label("Password").press("Enter")
    await ana.connected()


async def test_what_is_wrong_is_said_at_its_place(visitors: Visitors) -> None:
    (ana,) = await visitors.registered("Ana")
    other = await visitors.one("Other")
    other.excused = re.compile("status of (401|409)")
    await other.visit()
    page = other.page
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_label("Email")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Email").fill(ana.email)
    await page.get_by_label("Password").fill("something else")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("wrong")
    await page.get_by_role("button", name="Create an account").click()
    await page.get_by_label("Name", exact=True).fill("Other")
    await page.get_by_label("Email").fill(ana.email)
    await page.get_by_label("Password").fill("short")
    await page.get_by_role("button", name="Create account").click()
    await expect(page.locator("#field-password-error")).not_to_be_empty()
    await page.get_by_label("Password").fill("long enough")
    await page.get_by_role("button", name="Create account").click()
    await expect(page.locator("#field-email-error")).to_contain_text("there is an account", ignore_case=True)


async def test_an_access_token_that_ends_is_replaced(visitors: Visitors) -> None:
    (ana,) = await visitors.registered("Ana")
    before = await ana.page.evaluate("JSON.parse(localStorage.getItem('chalkwire.login'))")
    await ana.page.evaluate(END_TOKEN)
    await ana.page.reload()
    await ana.connected()
    after = await ana.page.evaluate("JSON.parse(localStorage.getItem('chalkwire.login'))")
    assert after["refresh"] != before["refresh"]


async def test_tabs_refresh_one_at_a_time(visitors: Visitors) -> None:
    """Tabs that wake up together share what the first one fetches, and none of them loses the login."""
    (ana,) = await visitors.registered("Ana")
    tabs = [await ana.page.context.new_page() for _ in range(4)]
    await ana.page.evaluate(END_TOKEN)
    for tab in tabs:
        await tab.goto(ana.server.url("/", ana.node), wait_until="commit")
    for tab in tabs:
        await tab.locator('.shell[data-connection="connected"]').wait_for()
        await tab.close()


async def test_a_login_that_has_ended_leads_to_the_form(visitors: Visitors) -> None:
    (ana,) = await visitors.registered("Ana")
    ana.excused = re.compile("status of 401")
    await ana.page.evaluate(
        """async () => {
            const login = JSON.parse(localStorage.getItem('chalkwire.login'));
            const body = JSON.stringify({ refresh_token: login.refresh });
            await fetch('/v1/auth/logout', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
        }"""
    )
    await expect(ana.page.get_by_role("button", name="Sign in")).to_be_visible()
    assert await ana.page.evaluate("localStorage.getItem('chalkwire.login')") is None


async def test_signing_out_in_one_tab_signs_out_the_others(visitors: Visitors) -> None:
    (ana,) = await visitors.registered("Ana")
    tab = await ana.page.context.new_page()
    await tab.goto(ana.server.url("/", ana.node))
    await tab.locator('.shell[data-connection="connected"]').wait_for()
    await tab.get_by_role("button", name="Account").click()
    await tab.get_by_role("menuitem", name="Sign out").click()
    await expect(ana.page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_the_links_in_mails(mailing_server: Server, mailbox: Mailbox, browser: Browser) -> None:
    visitors = Visitors(browser, mailing_server)
    (ana,) = await visitors.registered("Ana")
    page = ana.page
    token = link_in(await mailbox.letter(ana.email, "your address"), "verify")
    # Only what stands behind the # differs from where the page is: that alone loads nothing.
    await page.goto("about:blank")
    await page.goto(mailing_server.url(f"/#verify={token}", 0))
    await expect(page.locator(".toast")).to_contain_text("the address is yours")
    assert "verify" not in page.url

    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("menuitem", name="Sign out").click()
    await page.get_by_role("button", name="Forgotten the password?").click()
    await page.get_by_label("Email").fill(ana.email)
    await page.get_by_role("button", name="Send me a link").click()
    await expect(page.locator(".signin-card [role=status]")).to_contain_text("a link is on its way")
    link = link_in(await mailbox.letter(ana.email, "new password"), "reset")
    ana.excused = re.compile("status of (401|422)")
    for token, role, words in (("broken", "alert", "ask for another"), (link, "status", "sign in with it")):
        await page.goto("about:blank")
        await page.goto(mailing_server.url(f"/#reset={token}", 0))
        await page.get_by_label("New password").fill("an entirely new one")
        await page.get_by_role("button", name="Set password").click()
        await expect(page.locator(f".signin-card [role={role}]")).to_contain_text(words)
    await page.get_by_label("Email").fill(ana.email)
    await page.get_by_label("Password").fill("an entirely new one")
    await page.get_by_role("button", name="Sign in").click()
    await ana.connected()
    await visitors.leave()
