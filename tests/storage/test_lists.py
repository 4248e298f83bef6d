"""Every list of the LMS comes from an index, in its order: a page costs the same in a school of any size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec
import pytest

from storage.queries import load

pytestmark = pytest.mark.integration

FILES = ("courses", "enrolments", "assignments", "quizzes", "progress", "forums", "notifications", "school")
VALUES = {
    "uuid": "gen_random_uuid()",
    "timestamptz": "now()",
    "int4": "1",
    "int8": "1",
    "float8": "1",
    "bool": "true",
    "text": "'x'",
    "varchar": "'x'",
}
QUEUES = {"notifications_untold", "deliveries_failing"}  # partial indexes that have nothing but what is wanted
SORTED = {"lms_courses.search"}  # what the index of words finds, which is bounded by nothing better


def lists() -> Iterator[Any]:
    for file in (*(f"lms_{each}" for each in FILES), "deliveries"):
        for name, statement in load(file).items():
            if re.search(r"order by[^;]*limit \$", statement) and f"{file}.{name}" not in SORTED:
                yield pytest.param(statement, id=f"{file}.{name}")


@pytest.mark.parametrize("statement", list(lists()))
async def test_a_list_comes_from_an_index(connection: asyncpg.Connection[asyncpg.Record], statement: str) -> None:
    """A plan that scans or sorts is one that the planner found no way around."""
    for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin"):
        await connection.execute(f"set enable_{way} = off")
    await connection.execute("set plan_cache_mode = force_custom_plan")
    types = [each.name for each in (await connection.prepare(statement)).get_parameters()]
    await connection.execute(f"prepare list as {statement}")
    values = ", ".join(VALUES[each] for each in types)
    plan = msgspec.json.decode(await connection.fetchval(f"explain (format json) execute list ({values})"))
    (page,) = (each for each in nodes(plan[0]["Plan"]) if each["Node Type"] == "Limit")  # what it is joined to is small
    for node in nodes(page):
        kind, index = node["Node Type"], node.get("Index Name")
        assert kind not in ("Seq Scan", "Sort"), node
        assert index is None or "Index Cond" in node or index in QUEUES, node


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)
