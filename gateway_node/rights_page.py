"""docs/rights.md, printed from the table: `python -m gateway_node.rights_page` writes it anew."""

from __future__ import annotations

from pathlib import Path

from gateway_node.rights import COURSE_ROLES, METHODS, OPERATIONS, SCHOOL_ROLES, Right

HEAD = """# Rights

Who may do what. This page is printed from [gateway_node/rights.py](../gateway_node/rights.py) by
`python -m gateway_node.rights_page`; a test holds the two against each other, and each role against each row.

A person has a role in the school (student, teacher, assistant, admin), which an admin gives, and one in each course
that they take part in (student, assistant, teacher). An admin may everything in every course. `visitor` is whoever may
see a course: a published one that takes people. What somebody may not see is 404 to them; what they may see and not do
is 403. `*`: not in an archived course (409).
Rights in rooms are in [chat.md](chat.md), those in channels in [configuration](settings.md).
"""

PLACES = {
    "public": "everybody",
    "key": "the server's API key",
    "account": "whoever has an access token, for what is theirs",
    "room": "members of the room, by its rules",
    "class": "who takes part in the course of the class, by what the class is now ([classes](classes.md))",
}


KEYS = """
## With an API key

A key may what its owner may, over HTTP, as far as its scopes go: `read` is what is asked with GET, `write` all else,
`links` the short links. What no key may, whatever its scopes: {by_login}.
"""


def page() -> str:
    parts = [HEAD]
    for title, table in (("Over HTTP", OPERATIONS), ("RPC", METHODS)):
        parts.append(f"\n## {title}\n")
        free = {name: right for name, right in table.items() if right.place in PLACES}
        parts += ["\n| who | operations |\n|---|---|\n"]
        for place, who in PLACES.items():
            names = [f"`{name}`" for name, right in free.items() if right.place == place]
            if names:
                parts.append(f"| {who} | {', '.join(names)} |\n")
        for place, roles, what in (
            ("school", SCHOOL_ROLES, "in the school"),
            ("course", ("visitor", *COURSE_ROLES, "admin"), "in the course"),
        ):
            rows = {name: right for name, right in table.items() if right.place == place}
            if rows:
                parts.append(f"\n| {what} | {' | '.join(roles)} |\n|---|{'---|' * len(roles)}\n")
                parts += [_row(name, right, roles) for name, right in rows.items()]
    by_login = ", ".join(f"`{name}`" for name, right in OPERATIONS.items() if right.by_login)
    return "".join([*parts, KEYS.format(by_login=by_login)])


def _row(name: str, right: Right, roles: tuple[str, ...]) -> str:
    may = right.roles | {"admin"} if right.place == "course" else right.roles
    star = " \\*" if right.while_open else ""
    return f"| `{name}`{star} | {' | '.join('yes' if role in may else '' for role in roles)} |\n"


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs", "rights.md").write_text(page())
