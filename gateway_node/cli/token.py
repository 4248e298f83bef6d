"""`chalkwire token`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway_node.cli.options import ConfigFile, DataDirectory, load, load_with_secrets, want_data
from gateway_node.cli.trouble import Trouble


def token(
    *,
    user: Annotated[str, typer.Option(help="Id of the user; empty for an anonymous one.")],
    channel: Annotated[str | None, typer.Option(help="Make a subscription token for this channel.")] = None,
    role: Annotated[str, typer.Option(help="Role that a connection token carries.")] = "",
    ttl: Annotated[int, typer.Option(min=0, help="Seconds that it is valid; 0: for ever.")] = 3600,
    data_dir: DataDirectory = None,
    config: ConfigFile = None,
) -> None:
    """Print a token signed with the server's secret; the server need not run."""
    from gateway_node.tokens import BadKey, mint_connection, mint_subscription

    if channel is not None and role:
        raise Trouble("A subscription token carries no role: leave out --role or --channel.", status=2)
    given = load(config, data_dir)
    if given.token.hmac_secret is None:
        want_data(given, "token_secret", "postgres")
        given = load_with_secrets(config, data_dir)
    settings = given.token
    assert settings.hmac_secret is not None
    audience, issuer = settings.audience or "", settings.issuer or ""
    try:
        if channel is None:
            made = mint_connection(settings.hmac_secret, user, ttl=ttl, role=role, audience=audience, issuer=issuer)
        else:
            made = mint_subscription(settings.hmac_secret, user, channel, ttl=ttl, audience=audience, issuer=issuer)
    except BadKey as error:
        raise Trouble(f"{error}.", status=2) from None
    print(made)
