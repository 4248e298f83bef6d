"""Polls and quizzes in the class page: what the teacher asks, what a student answers, and who sees what of it."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, expect

from loadtest.server import Server
from tests.classes.test_talk import grades
from tests.lms.school import school
from tests.page.class_scenarios import three
from tests.page.classroom import Attendee
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


def answers(attendee: Attendee) -> Locator:
    return attendee.page.get_by_role("list", name="Answers").get_by_role("listitem")


def voters(attendee: Attendee) -> Locator:
    return attendee.page.get_by_role("list", name="Who answered what").get_by_role("listitem")


async def ask(teacher: Attendee, question: str, *options: str, named: bool = False) -> None:
    await teacher.page.get_by_label("Question").fill(question)
    await teacher.page.get_by_label("Answers, one a line").fill("\n".join(options))
    if named:
        await teacher.page.get_by_label("Anonymous").uncheck()
    await teacher.press("Ask")
    await expect(teacher.page.get_by_text(question, exact=True)).to_be_visible()


async def begin(teacher: Attendee, *others: Attendee) -> None:
    await teacher.is_in()
    await teacher.press("Start the class")
    for each in others:
        await each.is_in()


async def test_a_quiz_by_name(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        room, (teacher, ann, ben) = await three(visitors, server, people)
        await begin(teacher, ann, ben)
        await teacher.page.get_by_label("Quiz").check()
        await teacher.page.get_by_label("Answers, one a line").fill("3\n4\n5")
        await teacher.page.get_by_label("Right answer").select_option(label="4")
        await teacher.page.get_by_label("Points").fill("2")
        await ask(teacher, "2 + 2?", "3", "4", "5")
        await ann.hears("A quiz: 2 + 2?")
        await expect(ann.page.get_by_text("The teachers see who answers what. 2 points.")).to_be_visible()
        await expect(answers(ann)).to_have_text(["3", "4", "5"])  # nothing of what is right, or chosen
        await ann.press("4")
        await expect(answers(teacher)).to_have_text(["3 0", "4 1 (right)", "5 0"])
        await expect(voters(teacher)).to_have_text(["ann: 4 (right)"])
        await expect(answers(ben)).to_have_text(["3", "4", "5"])  # others' answers are no hint
        await ben.press("3")
        await expect(voters(teacher)).to_have_count(2)
        await expect(voters(teacher).filter(has_text="ben")).to_have_text("ben: 3")
        await expect(answers(ann)).to_have_text(["3 1", "4 1 (your answer)", "5 0"])
        await ann.button("5").press("Enter")  # the first one counts
        await expect(ann.button("4")).to_have_attribute("aria-pressed", "true")
        await teacher.press("Close the quiz")
        await ann.hears("The quiz is closed.")
        await ann.hears("Your answer is right: 2 points.")
        await ben.hears("Your answer is wrong. Right is: 4.")
        await expect(voters(ann)).to_have_count(0)
        await ann.page.reload()
        await ann.is_in()
        await expect(ann.page.get_by_text("The quiz is closed. Your answer is right: 2 points.")).to_be_visible()
        await expect(answers(ann)).to_have_text(["3 1", "4 1 (right) (your answer)", "5 0"])
        await expect(ann.page.get_by_role("log", name="What has happened").get_by_text("Your answer")).to_have_count(0)
        _, ann_person, ben_person = people
        assert await grades(people[0], room, (await teacher.state())["poll"]["id"], 2) == {
            ann_person.id: 2,
            ben_person.id: 0,
        }
        await expect(teacher.page.get_by_label("Question")).to_be_empty()  # and another one can be asked


async def test_a_poll_by_name_and_an_anonymous_one(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people)
        await begin(teacher, ann, ben)
        await ask(teacher, "Tea or coffee?", "Tea", "Coffee", named=True)
        await ann.press("Tea")
        await expect(voters(teacher)).to_have_text(["ann: Tea"])
        await teacher.press("Close the poll")
        await ann.hears("The poll is closed.")
        await ask(teacher, "Too fast?", "Yes", "No")
        await expect(ann.page.get_by_text("Anonymous: nobody sees who answers what.")).to_be_visible()
        await expect(answers(ann)).to_have_text(["Yes", "No"])
        await expect(ann.button("Yes")).to_have_attribute("aria-pressed", "false")
        await ann.press("Yes")
        await ben.press("No")
        await expect(answers(teacher)).to_have_text(["Yes 1", "No 1"])
        await expect(voters(teacher)).to_have_count(0)
        # Who comes back has what was counted, and their own answer.
        for each in (teacher, ann):
            await each.page.reload()
            await each.is_in()
            await expect(answers(each).first).to_contain_text("Yes 1")
        await expect(ann.button("Yes")).to_have_attribute("aria-pressed", "true")
        await teacher.press("End the class")
        await teacher.confirms("End it")
        await ann.hears("The poll is closed.")
        await expect(answers(ann)).to_have_text(["Yes 1 (your answer)", "No 1"])


async def test_an_anonymous_quiz_earns_no_points(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people)
        await begin(teacher, ann, ben)
        await teacher.page.get_by_label("Quiz").check()
        await expect(teacher.page.get_by_label("Points")).to_be_enabled()
        await teacher.page.get_by_label("Anonymous").check()
        await expect(teacher.page.get_by_label("Points")).to_be_disabled()
        await ask(teacher, "1 + 1?", "2", "3")
        await ann.press("2")
        await expect(answers(teacher)).to_have_text(["2 1 (right)", "3 0"])
        await teacher.press("Close the poll")
        await ann.hears("Your answer is right.")
        await ben.hears("You did not answer. Right is: 2.")
        # What cannot be asked is said, and nothing of it is lost.
        await teacher.page.get_by_label("Question").fill("Alone?")
        await teacher.page.get_by_label("Answers, one a line").fill("one")
        await teacher.press("Ask")
        await expect(teacher.page.locator(".toast")).to_contain_text("2 to 20 options")
        await expect(teacher.page.get_by_label("Question")).to_have_value("Alone?")
