"""The sections of the settings: every setting with its type, unit, default and meaning.

This is the one place that describes a setting (those of tokens are in `config/tokens.py`); validation, messages,
`docs/settings.md` and `chalkwire config` all read it from here. Models are frozen and hold plain values, so they cross
a fork or a pickle for free.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode

from config.kinds import (
    KIB,
    MIB,
    Count,
    DataFolder,
    Hosts,
    Networks,
    Origins,
    Port,
    Positive,
    Rate,
    Seconds,
    Secret,
    Section,
    Url,
    split,
    url_of,
)
from config.tokens import Token


class Http(Section):
    """The one port for HTTP and WebSocket."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; `0.0.0.0` or `::` for every interface.")
    port: Port = Field(default=8000, description="Port for HTTP and WebSocket; 0 takes a free one.")
    node_port_base: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Node *i* (from 0) also listens on this port + *i*, so that one node can be addressed.",
    )
    public_url: Annotated[str | None, url_of("http", "https", example="https://school.example")] = Field(
        default=None,
        description="Address under which people reach the server, for links in mails. Unset: `http://` with host and "
        "port.",
    )
    max_body: Annotated[ByteSize, Field(ge=KIB, le=1024 * MIB)] = Field(
        default=ByteSize(MIB),
        description="Largest request body; a larger one is answered with 413.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )


class Database(Section):
    """PostgreSQL, the source of truth."""

    url: Annotated[str | None, Url(), url_of("postgresql", "postgres", example="postgresql://user@host/name")] = Field(
        default=None, repr=False, description="Where PostgreSQL is. Unset: the embedded one is started."
    )
    statement_cache_size: Count = Field(
        default=100, description="Prepared statements kept by a connection; 0 behind PgBouncer in transaction mode."
    )
    pool_size: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=2, description="Connections a node opens at most. The sum over nodes must stay below `max_connections`."
    )
    connect_timeout: Seconds = Field(default=5.0, description="Seconds until an attempt to connect is given up.")
    statement_timeout: Seconds = Field(default=5.0, description="Seconds until the server cancels a statement.")


class Redis(Section):
    """Redis or Valkey: presence, typing, cursors, limits; nothing that may not be lost."""

    url: Annotated[
        str | None, Url(), url_of("redis", "rediss", "unix", example="redis://host:6379/0 or unix:///path/to.sock")
    ] = Field(default=None, repr=False, description="Where Redis or Valkey is. Unset: the embedded Valkey is started.")


class Nats(Section):
    """NATS, which carries publications between nodes."""

    url: Annotated[str | None, Url(), url_of("nats", "tls", example="nats://host:4222")] = Field(
        default=None, repr=False, description="Where NATS is. Unset: the embedded one is started."
    )


class Api(Section):
    """The server API (`POST /api/<method>`)."""

    key: Annotated[str | None, Secret(), Field(min_length=16)] = Field(
        repr=False,
        default=None,
        description="Key in `X-API-Key`. Unset: made on the first start and kept in the data directory.",
    )


class ChannelOptions(Section):
    """The rules of the channels of a namespace, under Centrifugo's names (`join_leave_limit` apart) and with its
    defaults."""

    presence: bool = Field(default=False, description="Keep who is subscribed.")
    join_leave: bool = Field(default=False, description="Announce who subscribes and who leaves.")
    force_push_join_leave: bool = Field(default=False, description="Send joins and leaves to clients that did not ask.")
    history_size: Count = Field(default=0, description="Publications kept; 0: no history, and delivery at most once.")
    history_ttl: Count = Field(default=0, description="Seconds that a publication is kept; 0: for ever.")
    force_recovery: bool = Field(default=False, description="Recover missed publications for clients that did not ask.")
    force_positioning: bool = Field(default=False, description="Watch the position of clients that did not ask.")
    allow_recovery: bool = Field(default=True, description="Let clients ask for recovery.")
    allow_positioning: bool = Field(default=True, description="Let clients ask for positioning.")
    allow_subscribe_for_client: bool = Field(default=False, description="Let users subscribe without a token.")
    allow_subscribe_for_anonymous: bool = Field(default=False, description="The same for anonymous connections.")
    allow_publish_for_client: bool = Field(default=False, description="Let users publish, subscribed or not.")
    allow_publish_for_subscriber: bool = Field(default=False, description="Let subscribers publish.")
    allow_publish_for_anonymous: bool = Field(default=False, description="Extend both to anonymous connections.")
    allow_presence_for_client: bool = Field(default=False, description="Let users ask who is present.")
    allow_presence_for_subscriber: bool = Field(default=False, description="Let subscribers ask who is present.")
    allow_presence_for_anonymous: bool = Field(default=False, description="Extend both to anonymous connections.")
    allow_history_for_client: bool = Field(default=False, description="Let users read history.")
    allow_history_for_subscriber: bool = Field(default=False, description="Let subscribers read history.")
    allow_history_for_anonymous: bool = Field(default=False, description="Extend both to anonymous connections.")
    allow_user_limited_channels: bool = Field(
        default=False, description="Honour names such as `dialog#17,42`: only the users named may subscribe."
    )
    join_leave_limit: Count = Field(
        default=0, description="Subscribers on one node above which joins and leaves are not announced; 0: no limit."
    )


BUILT_IN_NAMESPACES = frozenset({"room", "class", "thread", "user"})


def _namespaces(value: dict[str, ChannelOptions]) -> dict[str, ChannelOptions]:
    for name in value:
        if name in BUILT_IN_NAMESPACES:
            raise ValueError(f"the namespace {name!r} is built in and cannot be configured")
        if not re.fullmatch(r"[-a-zA-Z0-9_.]{2,}", name):
            raise ValueError(f"{name!r} cannot name a namespace: two or more letters, digits, '-', '_' or '.'")
    return value


# A first program needs a channel to talk in. Whoever configures namespaces replaces this one with them.
_FIRST_STEPS: Any = {
    "chat": {
        "presence": True,
        "history_size": 1000,
        "history_ttl": 86400,
        "force_recovery": True,
        "allow_subscribe_for_client": True,
        "allow_publish_for_subscriber": True,
        "allow_presence_for_subscriber": True,
        "allow_history_for_subscriber": True,
    }
}


class Channel(Section):
    """Which channels there are beside the built-in `room:`, `class:`, `thread:` and `user:`, and what they allow."""

    without_namespace: ChannelOptions = Field(
        default=ChannelOptions(), description="Rules of the channels whose name has no `prefix:`."
    )
    namespaces: Annotated[dict[str, ChannelOptions], AfterValidator(_namespaces)] = Field(
        default=_FIRST_STEPS,
        description="Rules by prefix: a table each in TOML, one JSON object in the environment. Unset: channels "
        "`chat:…`, durable and open to every user.",
    )


class Client(Section):
    """A client's connection."""

    ping_interval: Seconds = Field(default=25.0, description="Seconds between the server's pings.")
    pong_timeout: Seconds = Field(
        default=8.0,
        description="Seconds for the answer to a ping, less than the interval; then 3012.",
    )
    connect_timeout: Seconds = Field(default=10.0, description="Seconds for the first command; then 3502.")
    expired_grace: Seconds = Field(
        default=25.0, description="Seconds after a token's expiry in which it can be refreshed."
    )
    max_message_size: Annotated[ByteSize, Field(ge=KIB, le=16 * MIB)] = Field(
        default=ByteSize(64 * KIB), description="Largest message from a client; a larger one closes its connection."
    )
    outbox: Annotated[ByteSize, Field(ge=2 * KIB, le=1024 * MIB)] = Field(
        default=ByteSize(MIB),
        description="Bytes that may wait for a slow reader; then 3008, and the client recovers later.",
    )
    channel_limit: Positive = Field(default=128, description="Subscriptions of one connection.")
    connections_per_user: Count = Field(default=0, description="Connections of one user on one node; 0: any number.")
    commands_per_second: Rate = Field(
        default=100.0, description="Commands a second of one connection, in the long run; 0: any number."
    )
    commands_burst: Positive = Field(default=500, description="Commands at once, above that rate.")
    publishes_per_second: Rate = Field(
        default=20.0, description="Publications a second of one connection, in the long run; 0: any number."
    )
    publishes_burst: Positive = Field(default=100, description="Publications at once, above that rate.")
    allow_anonymous: bool = Field(
        default=False, description="Accept connections without a token, as an anonymous user."
    )
    allowed_origins: Origins = Field(
        default=(),
        description="Origins of web pages that may connect (`*`: any). Empty: the server's own host. Clients that send "
        "no `Origin` are not browsers and always may.",
    )
    compression: bool = Field(default=False, description="Offer permessage-deflate, without context takeover.")
    history_limit: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1000, description="Publications in one answer to `history`."
    )
    recovery_limit: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1000,
        description="Publications recovered at a reconnect; above it the answer is `recovered: false`.",
    )

    @field_validator("outbox")
    @classmethod
    def _recovery_fits(cls, value: int, info: ValidationInfo) -> int:
        """A recovery may take half of the outbox, and must be able to carry the largest message."""
        if value < 2 * info.data.get("max_message_size", 0):
            raise ValueError("at least twice client.max_message_size is wanted")
        return value

    @field_validator("pong_timeout")
    @classmethod
    def _pongs_come_before_the_next_ping(cls, value: float, info: ValidationInfo) -> float:
        if value >= info.data.get("ping_interval", math.inf):
            raise ValueError("less than client.ping_interval is wanted")
        return value


class Limits(Section):
    """Requests a minute. Each is a bucket that holds one minute's worth, so as many may come at once; 0: any number."""

    logins_per_address: Count = Field(default=30, description="Login attempts a minute from one address.")
    logins_per_user: Count = Field(default=10, description="Login attempts a minute for one account.")
    registrations_per_address: Count = Field(default=10, description="New accounts a minute from one address.")
    requests_per_address: Count = Field(default=1200, description="HTTP requests a minute from one address.")
    requests_per_user: Count = Field(default=600, description="HTTP requests a minute of one user.")
    links_per_user: Count = Field(default=300, description="Short links that one user makes a minute.")
    link_passwords: Count = Field(
        default=10, description="Passwords a minute that one address tries for one short link."
    )


class Chat(Section):
    """Rooms of people."""

    small_room: Positive = Field(
        default=100,
        description="Members up to which a room is small: everybody sees who has read, who types and who comes and "
        "goes. Above, they see numbers.",
    )
    pulse: Seconds = Field(
        default=1.0, description="Seconds between two pushes of receipts, of typing and of numbers into one room."
    )


class Files(Section):
    """Files that people share."""

    url: Annotated[str | None, Url(), url_of("file", "s3", "gs", "az", example="s3://bucket/prefix")] = Field(
        default=None,
        repr=False,
        description="Object store of the files. Unset: the folder `files` in the data directory.",
    )
    max_size: Annotated[ByteSize, Field(ge=KIB, le=1024 * 1024 * MIB)] = Field(
        default=ByteSize(100 * MIB), description="Largest file; a larger one is answered with 413."
    )
    orphan_ttl: Seconds = Field(
        default=86400.0, description="Seconds after which an upload that no message carries is removed."
    )
    link_ttl: Seconds = Field(default=3600.0, description="Seconds that a download link is valid.")


def _sender(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"([^<>\x00-\x1f]* )?<?[^@<>\s]+@[^@<>\s]+>?", value):
        raise ValueError(f"{value!r} is not a sender such as School <no-reply@school.example>")
    return value


class Mail(Section):
    """Mail to people: notifications, lost passwords, verification of addresses."""

    url: Annotated[str | None, Url(), url_of("smtp", "smtps", example="smtp://user:password@mail.example:587")] = Field(
        default=None,
        repr=False,
        description="The mail server. `smtp` turns to TLS where the server offers it, `smtps` begins with it. "
        "Unset: no mail is sent.",
    )
    sender: Annotated[str, AfterValidator(_sender)] = Field(
        default="Chalkwire <no-reply@localhost>", description="Whom mails come from."
    )
    retry_after: Seconds = Field(
        default=60.0,
        description="Seconds until a mail or a push that was not sent is tried again, twice as many with each attempt "
        "and an hour at most, for two days.",
    )
    templates: DataFolder | None = Field(
        default=None,
        description="Folder of templates that go before the built-in ones of the same name, such as "
        "`password.reset.txt`.",
    )


PUSH_SERVICES = (
    "fcm.googleapis.com",
    "push.services.mozilla.com",
    "push.apple.com",
    "notify.windows.com",
)


class Push(Section):
    """Web push: messages to browsers that are not there."""

    contact: Annotated[str | None, Field(pattern=r"^(mailto:[^@\s]+@[^@\s]+|https://\S+)$")] = Field(
        default=None,
        description="Where push services reach the operator: `mailto:admin@school.example` or an https address. Unset: "
        "no pushes are sent.",
    )
    private_key: Annotated[str | None, Secret(), Field(min_length=32)] = Field(
        default=None,
        repr=False,
        description="VAPID key (RFC 8292): 32 bytes in base64url. Unset: made on the first start and kept in the data "
        "directory.",
    )
    services: Hosts = Field(
        default=PUSH_SERVICES,
        description="Hosts of push services, with what is below them; browsers with endpoints elsewhere are refused. "
        "An origin such as `http://127.0.0.1:9000` is one, too.",
    )


def _whole(value: Any) -> Any:
    """Choices that are numbers come from the environment as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _base(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"https?://[^/\s?#@]+", value):
        raise ValueError("a scheme and a host are wanted, such as https://example.org")
    return value


def _domain(value: str) -> str:
    try:
        domain = value.strip().rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        domain = ""
    if not domain or "/" in domain:
        raise ValueError(f"{value!r} is no domain such as example.org")
    return domain


Domains = Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], NoDecode, BeforeValidator(split)]
Words = Annotated[tuple[Annotated[str, AfterValidator(str.lower)], ...], NoDecode, BeforeValidator(split)]


class Links(Section):
    """Short links."""

    base_url: Annotated[str | None, AfterValidator(_base)] = Field(
        default=None,
        description="What short links begin with, such as https://example.org. Unset: as the request was addressed.",
    )
    redirect_status: Annotated[Literal[301, 302, 307, 308], BeforeValidator(_whole)] = Field(
        default=302,
        description="Status of a redirect. Browsers keep 301 and 308 for 90 s, in which they do not ask again.",
    )
    anonymous: bool = Field(default=False, description="Let everybody make links, without an account.")
    blocked_domains: Domains = Field(
        default=(), description="Domains, with all below them, to which no link is made or followed."
    )
    blocked_codes: Words = Field(default=(), description="Codes that nobody may have, beside the reserved ones.")
    private_addresses: bool = Field(
        default=False, description="Accept targets such as 10.0.0.1 and names such as `localhost`."
    )
    store_ip: Literal["none", "truncated", "full"] = Field(
        default="none",
        description="What is kept of a visitor's address: nothing, its network (/24, /48), or all of it.",
    )
    country_database: DataFolder | None = Field(
        default=None, description="MaxMind DB file (`.mmdb`) of countries. Unset: what the registries gave to whom."
    )
    keep_clicks: Count = Field(
        default=400, description="Days that single clicks are kept; 0: for ever. What was counted of them stays."
    )


def _ice_server(value: str) -> str:
    if not re.fullmatch(r"(stun|turn)s?:[^\s/]+", value):
        raise ValueError(f"{value!r} is no ICE server such as turn:turn.example.org:3478")
    return value


_JanusUrl = Annotated[str, url_of("ws", "wss", "unix", example="ws://127.0.0.1:8188")]
JanusUrls = Annotated[tuple[_JanusUrl, ...], Url(), NoDecode, BeforeValidator(split)]
IceServers = Annotated[tuple[Annotated[str, AfterValidator(_ice_server)], ...], NoDecode, BeforeValidator(split)]


class Media(Section):
    """Video and voice of live classes."""

    ice_servers: IceServers = Field(
        default=(),
        description="STUN and TURN servers (`stun:host`, `turn:host:port`) by which browsers find each other.",
    )
    turn_secret: Annotated[str | None, Secret(), Field(min_length=16)] = Field(
        default=None,
        repr=False,
        description="Secret that is shared with the TURN servers (coturn's `static-auth-secret`); credentials are made "
        "from it for whoever is in a class.",
    )
    turn_ttl: Annotated[int, Field(ge=60, le=7 * 86400)] = Field(
        default=6 * 3600, description="Seconds that such credentials are valid."
    )
    janus_urls: JanusUrls = Field(
        default=(),
        description="WebSockets of the Janus servers, which nobody else reaches; each class is on one of them. Empty: "
        "the embedded one, where Janus is installed, for the nodes of one host.",
    )
    janus_secret: Annotated[str | None, Secret()] = Field(
        default=None, repr=False, description="`api_secret` of these servers."
    )

    @field_validator("janus_urls")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each server once is wanted")
        return value


class Log(Section):
    """JSON lines on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged, and worse."
    )


class Drain(Section):
    """A stop that loses nothing."""

    window: Rate = Field(
        default=5.0, description="Seconds over which the connections of a stopping node are told to reconnect."
    )
    cap: Seconds = Field(default=30.0, description="Seconds until a stopping node ends whatever happens.")

    @field_validator("cap")
    @classmethod
    def _window_fits(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("window", 0):
            raise ValueError("at least drain.window is wanted")
        return value


Role = Literal["gateway", "api", "worker"]
Roles = Annotated[tuple[Role, ...], NoDecode, BeforeValidator(split), Field(min_length=1)]


class Settings(Section):
    """Everything that can be set. `Settings()` is all defaults; `config.settings.load_settings` reads the sources."""

    nodes: Annotated[int, Field(ge=1, le=1024)] = Field(default=2, description="Gateway processes that share the port.")
    roles: Roles = Field(
        default=("gateway", "api", "worker"),
        description="What this host does: `gateway` (connections), `api` (REST and the server API), `worker` (jobs).",
    )
    data_dir: DataFolder = Field(
        default=Path("chalkwire-data"),
        description="Folder of the embedded servers, the generated secrets and the files; made when missing.",
    )
    http: Http = Http()
    database: Database = Database()
    redis: Redis = Redis()
    nats: Nats = Nats()
    token: Token = Token()
    api: Api = Api()
    channel: Channel = Channel()
    client: Client = Client()
    limits: Limits = Limits()
    chat: Chat = Chat()
    files: Files = Files()
    mail: Mail = Mail()
    push: Push = Push()
    links: Links = Links()
    media: Media = Media()
    log: Log = Log()
    drain: Drain = Drain()
