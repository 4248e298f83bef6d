"""`chalkwire user`: who may log in."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway_node.cli.options import ConfigFile, DataDirectory, load, load_with_secrets, want_data
from gateway_node.cli.stores import database
from gateway_node.cli.trouble import Trouble

if TYPE_CHECKING:
    from pathlib import Path

    from config.sections import Settings
    from storage.database import Database
    from storage.users import User

SHORTEST_PASSWORD = 8  # characters, as at registration over HTTP
PAGE = 100  # users read at once
TIMEOUT = 5.0  # seconds for the running server to take a message

T = TypeVar("T")

app = typer.Typer(help="Manage who may log in.", no_args_is_help=True, rich_markup_mode=None)
Email = Annotated[str, typer.Argument(help="The address that the user logs in with.")]


@app.command("add")
def add(
    email: Email,
    *,
    name: Annotated[str, typer.Option(help="What others see.")] = "",
    role: Annotated[str, typer.Option(help="student, teacher, assistant or admin.")] = "student",
    data_dir: DataDirectory = None,
    config: ConfigFile = None,
) -> None:
    """Make an account. The password is asked for, or read from the standard input when that is not a terminal."""
    from gateway_node.passwords import Passwords
    from storage.users import EmailTaken, UserStore

    if "@" not in email:
        raise Trouble(f"{email!r} is not an address such as someone@example.org.", status=2)
    _check_role(role)
    settings = _settings(config, data_dir)
    password = _password()

    async def create(opened: Database) -> User:
        passwords = Passwords()
        try:
            return await UserStore(opened).create(
                email, await passwords.hash(password), name=name, role=role, verified=True
            )
        except EmailTaken:
            raise Trouble(f"There is a user {email} already.") from None
        finally:
            passwords.close()

    print(_in_database(settings, create).id)


@app.command("list")
def every(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data_dir: DataDirectory = None,
    config: ConfigFile = None,
) -> None:
    """List the accounts, oldest first."""
    from storage.users import UserStore

    async def read(opened: Database) -> list[User]:
        store = UserStore(opened)
        users: list[User] = []
        while page := await store.list(after=users[-1] if users else None, limit=PAGE):
            users += page
        return users

    for user in _in_database(_settings(config, data_dir), read):
        shown = {
            "id": str(user.id),
            "email": user.email,
            "name": user.name,
            "role": user.role,
            "created_at": user.created_at.isoformat(),
            "disabled_at": user.disabled_at and user.disabled_at.isoformat(),
        }
        if as_json:
            print(json.dumps(shown, ensure_ascii=False))
        else:
            print(f"{user.id}  {user.role:<10} {'disabled' if user.disabled_at else 'active':<9} {user.email}")


@app.command("disable")
def disable(email: Email, *, data_dir: DataDirectory = None, config: ConfigFile = None) -> None:
    """Keep a user out: no login, every login ended, live connections closed."""
    from gateway_node.process_list import read_processes
    from storage.sessions import SessionStore
    from storage.users import UserStore

    settings = _settings(config, data_dir)

    async def end(opened: Database) -> User:
        user = await _known(opened, email)
        await UserStore(opened).disable(user.id)
        await SessionStore(opened).revoke_all(user.id)
        return user

    user = _in_database(settings, end)
    if (processes := read_processes(settings.data_dir)) is not None:
        _disconnect(processes["url"], load_with_secrets(config, data_dir).api.key or "", str(user.id))
    print(f"{email} is disabled.")


@app.command("enable")
def enable(email: Email, *, data_dir: DataDirectory = None, config: ConfigFile = None) -> None:
    """Let a user in again who was disabled."""
    from storage.users import UserStore

    async def begin(opened: Database) -> None:
        await UserStore(opened).enable((await _known(opened, email)).id)

    _in_database(_settings(config, data_dir), begin)
    print(f"{email} is enabled.")


@app.command("role")
def set_role(
    email: Email,
    role: Annotated[str, typer.Argument(help="student, teacher, assistant or admin.")],
    *,
    data_dir: DataDirectory = None,
    config: ConfigFile = None,
) -> None:
    """Give a user another role in the school, from the next request on."""
    from storage.lms.school import LastAdmin, SchoolStore

    _check_role(role)

    async def give(opened: Database) -> None:
        user = await _known(opened, email)
        try:
            await SchoolStore(opened).set_role(None, user.id, role)
        except LastAdmin:
            raise Trouble(f"{email} is the last admin: make somebody else one first.") from None

    _in_database(_settings(config, data_dir), give)
    print(f"The role of {email} is {role}.")


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    """Those of a server whose database is there. Raises `Trouble`."""
    settings = load(config, data_dir)
    if settings.database.url is None:
        want_data(settings, "postgres")
    return settings


async def _known(opened: Database, email: str) -> User:
    from storage.users import UserStore

    user = await UserStore(opened).by_email(email)
    if user is None:
        raise Trouble(f"There is no user {email}.")
    return user


def _check_role(role: str) -> None:
    from gateway_node.rights import SCHOOL_ROLES

    if role not in SCHOOL_ROLES:
        raise Trouble(f"{role!r} is no role: {', '.join(SCHOOL_ROLES)}.", status=2)


def _password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise Trouble("The two passwords differ.", status=2)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < SHORTEST_PASSWORD:
        raise Trouble(f"A password has {SHORTEST_PASSWORD} characters or more.", status=2)
    return password


def _in_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    from storage.database import Database, DatabaseUnavailable
    from storage.migrate import MigrationError, check

    async def run(url: str) -> T:
        await check(url)
        opened = Database(url, pool_size=1, statement_cache_size=settings.database.statement_cache_size)
        try:
            return await work(opened)
        finally:
            await opened.close()

    with database(settings) as url:
        try:
            return asyncio.run(run(url))
        except (DatabaseUnavailable, MigrationError) as error:
            raise Trouble(f"{error}.") from None


def _disconnect(url: str, key: str, user: str) -> None:
    """Tell the running server, whose nodes tell each other."""
    request = urllib.request.Request(  # noqa: S310
        f"{url}/api/disconnect",
        data=json.dumps({"user": user}).encode(),
        headers={"Content-Type": "application/json", "X-API-Key": key},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            answered: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        raise Trouble(
            f"The user is disabled, but the server could not be told to end live connections: {error}."
        ) from None
    if "error" in answered:
        raise Trouble(f"The user is disabled, but live connections stay: {answered['error']}.")
