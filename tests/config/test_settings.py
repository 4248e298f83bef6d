"""Where settings come from, and what a wrong one is answered with."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from config.catalogue import every_setting
from config.sections import BUILT_IN_NAMESPACES
from config.sections import ChannelOptions as Configured
from config.settings import Settings, SettingsError, load_settings
from realtime.namespaces import BUILT_IN, ChannelOptions

pytestmark = pytest.mark.usefixtures("clean")

CAMPUS = {"issuer": "https://login.example", "jwks_url": "https://login.example/keys", "audience": "chalkwire"}


def refusal(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=overrides)
    return str(caught.value)


def refusal_of(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(f"CHALKWIRE_{name}", value)
    return refusal()


class TestSources:
    def test_defaults(self) -> None:
        assert load_settings() == Settings()

    def test_command_line_over_environment_over_file_over_default(
        self, clean: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (clean / "chalkwire.toml").write_text("nodes = 3\n[http]\nport = 1\nhost = 'file'\nnode_port_base = 3000\n")
        monkeypatch.setenv("CHALKWIRE_HTTP__PORT", "2")
        monkeypatch.setenv("CHALKWIRE_HTTP__HOST", "environment")
        settings = load_settings(overrides={"http": {"port": 4}})
        assert settings.nodes == 3
        assert settings.http.node_port_base == 3000
        assert settings.http.host == "environment"
        assert settings.http.port == 4

    def test_a_named_file_replaces_the_one_in_the_working_directory(self, clean: Path) -> None:
        (clean / "chalkwire.toml").write_text("nodes = 3")
        (clean / "other.toml").write_text("nodes = 4")
        assert load_settings(clean / "other.toml").nodes == 4

    def test_namespaces_of_the_file_and_the_environment_are_joined(
        self, clean: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (clean / "chalkwire.toml").write_text(
            "[channel.namespaces.chat]\nhistory_size = 5\npresence = true\n[channel.namespaces.news]\n"
        )
        monkeypatch.setenv("CHALKWIRE_CHANNEL__NAMESPACES", '{"chat": {"history_size": 7}, "live": {}}')
        namespaces = load_settings().channel.namespaces
        assert namespaces == {
            "chat": Configured(history_size=7, presence=True),
            "news": Configured(),
            "live": Configured(),
        }

    def test_issuers_of_the_file_and_the_environment(self, clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (clean / "chalkwire.toml").write_text(
            "[token.issuers.campus]\nissuer = 'https://login.example'\njwks_url = 'https://login.example/keys'\n"
            "audience = 'chalkwire'\nroles = {staff = 'teacher'}\n"
        )
        monkeypatch.setenv("CHALKWIRE_TOKEN__ISSUERS", '{"campus": {"algorithms": ["ES256"], "role_claim": "role"}}')
        campus = load_settings().token.issuers["campus"]
        assert (campus.algorithms, campus.role_claim, campus.roles) == (("ES256",), "role", {"staff": "teacher"})

    def test_an_empty_variable_is_unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHALKWIRE_DATABASE__URL", "")
        assert load_settings().database.url is None

    @pytest.mark.parametrize("value", ["gateway,api", "gateway, api,", '["gateway", "api"]'])
    def test_lists_from_the_environment(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHALKWIRE_ROLES", value)
        assert load_settings().roles == ("gateway", "api")

    def test_lists_of_a_section_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHALKWIRE_HTTP__TRUSTED_PROXIES", "10.0.0.1/8,::1")
        monkeypatch.setenv("CHALKWIRE_CLIENT__ALLOWED_ORIGINS", "https://example.org, *")
        settings = load_settings()
        assert settings.http.trusted_proxies == ("10.0.0.0/8", "::1/128")
        assert settings.client.allowed_origins == ("https://example.org", "*")

    def test_sizes_have_units(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHALKWIRE_CLIENT__OUTBOX", "2MiB")
        assert load_settings().client.outbox == 2 * 1024 * 1024

    def test_the_data_directory_does_not_follow_the_working_directory(
        self, clean: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = load_settings()
        monkeypatch.chdir("/")
        assert settings.data_dir == clean / "chalkwire-data"


class TestRefusals:
    """Each says the names, the value and what would do."""

    def test_a_bad_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, HTTP__PORT="eighty") == (
            'CHALKWIRE_HTTP__PORT (http.port in TOML) is "eighty"; it takes a whole number from 0 to 65535.'
        )

    def test_a_number_out_of_bounds(self) -> None:
        assert refusal(nodes=0) == "CHALKWIRE_NODES (nodes in TOML) is 0; it takes a whole number from 1 to 1024."

    def test_infinity(self, clean: Path) -> None:
        (clean / "chalkwire.toml").write_text("[client]\nping_interval = inf")
        assert "client.ping_interval in TOML) is Infinity; it takes a number above 0." in refusal()

    def test_one_of_several(self) -> None:
        assert refusal(log={"level": "loud"}).endswith('is "loud"; it takes one of debug, info, warning, error.')

    def test_an_item_of_a_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, ROLES="gateway,waiter") == (
            'CHALKWIRE_ROLES (roles in TOML) is "waiter"; '
            "it takes a list (a,b in the environment) of gateway, api, worker."
        )

    def test_an_empty_list_of_roles(self) -> None:
        assert "CHALKWIRE_ROLES" in refusal(roles=[])

    def test_a_list_that_is_no_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, CLIENT__ALLOWED_ORIGINS='["a').startswith("CHALKWIRE_CLIENT__ALLOWED_ORIGINS (")

    def test_a_size(self) -> None:
        assert refusal(client={"outbox": "lots"}).endswith(
            'is "lots"; it takes a size from 2 KiB to 1 GiB, in bytes or with its unit.'
        )

    def test_a_proxy(self) -> None:
        assert "'proxy' is neither an address nor a network" in refusal(http={"trusted_proxies": ["proxy"]})

    def test_an_origin(self) -> None:
        assert "'example.org' is not an origin" in refusal(client={"allowed_origins": ["example.org"]})

    def test_a_section_that_is_no_table(self) -> None:
        assert refusal(http=80) == "CHALKWIRE_HTTP (http in TOML) is 80; it takes a table of settings."

    def test_a_pong_after_the_next_ping(self) -> None:
        assert refusal(client={"pong_timeout": 25}).endswith("is 25; less than client.ping_interval is wanted.")

    def test_an_outbox_smaller_than_two_messages(self) -> None:
        assert "at least twice client.max_message_size" in refusal(client={"outbox": 100_000})

    def test_a_drain_longer_than_its_cap(self) -> None:
        assert "drain.cap in TOML) is 3; at least drain.window is wanted." in refusal(drain={"cap": 3})

    def test_several_at_once(self) -> None:
        text = refusal(nodes=0, http={"port": -1})
        assert [line.split()[0] for line in text.splitlines()] == ["CHALKWIRE_NODES", "CHALKWIRE_HTTP__PORT"]

    def test_an_unknown_variable_with_its_neighbour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, HTTP__PROT="80") == (
            "CHALKWIRE_HTTP__PROT is not a setting; did you mean CHALKWIRE_HTTP__PORT?"
        )

    def test_an_unknown_variable_without_a_neighbour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, ZZZ="1") == "CHALKWIRE_ZZZ is not a setting; docs/settings.md has all."

    def test_an_unknown_setting_of_the_file(self, clean: Path) -> None:
        (clean / "chalkwire.toml").write_text("[http]\nprot = 80")
        assert refusal() == ("CHALKWIRE_HTTP__PROT (http.prot in TOML) is not a setting; did you mean http.port?")

    def test_a_file_that_is_not_there(self, clean: Path) -> None:
        with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be read: No such file"):
            load_settings(clean / "nowhere.toml")

    @pytest.mark.parametrize("content", [b"nodes =", b"\xff"])
    def test_a_file_that_is_no_toml(self, clean: Path, content: bytes) -> None:
        (clean / "chalkwire.toml").write_bytes(content)
        assert "chalkwire.toml is not valid TOML" in refusal()

    @pytest.mark.parametrize("value", ["{", "5", '"chat"'])
    def test_namespaces_that_are_no_table(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, CHANNEL__NAMESPACES=value).startswith("CHALKWIRE_CHANNEL__NAMESPACES ")

    def test_an_option_of_a_namespace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, CHANNEL__NAMESPACES='{"chat": {"history_size": -1}}') == (
            "CHALKWIRE_CHANNEL__NAMESPACES (channel.namespaces.chat.history_size in TOML) is -1; "
            "it takes a whole number from 0 to 2147483647."
        )

    def test_an_unknown_option_of_a_namespace(self) -> None:
        assert "(channel.namespaces.chat.histry_size in TOML) is not a setting; did you mean" in refusal(
            channel={"namespaces": {"chat": {"histry_size": 1}}}
        )

    @pytest.mark.parametrize("name", sorted(BUILT_IN_NAMESPACES))
    def test_a_built_in_namespace(self, name: str) -> None:
        assert f"the namespace '{name}' is built in" in refusal(channel={"namespaces": {name: {}}})

    @pytest.mark.parametrize("name", ["", "x", "a b", "a:b", "$a"])
    def test_a_bad_name_of_a_namespace(self, name: str) -> None:
        assert "cannot name a namespace" in refusal(channel={"namespaces": {name: {}}})

    @pytest.mark.parametrize("value", ["{", "5", '"campus"'])
    def test_issuers_that_are_no_table(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert refusal_of(monkeypatch, TOKEN__ISSUERS=value).startswith("CHALKWIRE_TOKEN__ISSUERS ")

    @pytest.mark.parametrize(
        ("changes", "refused"),
        [
            ({"jwks_url": "http://login.example/keys"}, "http:// only to this machine"),
            ({"jwks_url": "http://localhost.example/keys"}, "http:// only to this machine"),
            ({"jwks_url": "file:///keys"}, "a URL such as https://login.example/keys is wanted"),
            ({"algorithms": ["HS256"]}, "it takes a list (a,b in the environment) of RS256"),
            ({"algorithms": []}, "it takes a list"),
            ({"audience": ""}, "it takes a text of 1 characters or more"),
            ({"roles": {"x": "headmaster"}}, "it takes a table"),
            ({"jwks_ur": "x"}, "(token.issuers.campus.jwks_ur in TOML) is not a setting"),
        ],
        ids=str,
    )
    def test_an_option_of_an_issuer(self, changes: dict[str, Any], refused: str) -> None:
        assert refused in refusal(token={"issuers": {"campus": CAMPUS | changes}})

    def test_an_issuer_without_an_audience(self) -> None:
        without = {name: value for name, value in CAMPUS.items() if name != "audience"}
        assert refusal(token={"issuers": {"campus": without}}) == (
            "CHALKWIRE_TOKEN__ISSUERS (token.issuers.campus.audience in TOML) is missing."
        )

    def test_issuers_that_cannot_be_told_apart(self) -> None:
        assert "have the same" in refusal(token={"issuers": {"campus": CAMPUS, "again": CAMPUS}})
        assert "cannot name an issuer" in refusal(token={"issuers": {"a b": CAMPUS}})
        assert "which is this server" in refusal(token={"issuer": CAMPUS["issuer"], "issuers": {"campus": CAMPUS}})

    def test_secrets_and_passwords_are_not_repeated(self) -> None:
        text = refusal(
            token={"hmac_secret": "hush"},
            api={"key": "hush"},
            database={"url": "mysql://user:hush@host/db?password=hush"},
            nats={"url": "http://hush@host"},
            redis={"url": "http://:hush@host"},
        )
        assert len(text.splitlines()) == 5
        assert "hush" not in text

    def test_a_url_that_is_none(self) -> None:
        assert "a URL such as postgresql://user@host/name is wanted" in refusal(database={"url": "postgresql:[::1"})

    def test_a_long_value_is_cut(self) -> None:
        assert len(refusal(log={"level": "x" * 10_000})) < 300


def pem_of(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


class TestPublicKey:
    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["rsa", "p256", "p384", "p521", "ed25519"],
    )
    def test_a_key_that_does(self, key: Any) -> None:
        assert load_settings(overrides={"token": {"public_key": pem_of(key)}}).token.public_key == pem_of(key)

    def test_an_rsa_key_that_is_too_small(self) -> None:
        key = rsa.generate_private_key(65537, 1024)
        assert "2048 bits or more is wanted, and this one has 1024" in refusal(token={"public_key": pem_of(key)})

    @pytest.mark.parametrize("key", [dsa.generate_private_key(1024), ec.generate_private_key(ec.SECP256K1())])
    def test_a_key_of_another_type(self, key: Any) -> None:
        wanted = "an RSA, ECDSA (P-256, P-384, P-521) or EdDSA key is wanted"
        assert wanted in refusal(token={"public_key": pem_of(key)})

    def test_what_is_no_key(self) -> None:
        assert "a PEM public key" in refusal(token={"public_key": "secret"})


def test_settings_are_immutable() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.http.port = 1


def test_settings_survive_a_pickle() -> None:
    settings = load_settings(overrides={"channel": {"namespaces": {"chat": {"history_size": 3}}}})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_every_setting_is_described() -> None:
    assert [setting.toml for setting in every_setting() if not setting.description] == []


def test_channel_options_are_those_of_the_core() -> None:
    core = {field.name: field.default for field in dataclasses.fields(ChannelOptions)}
    del core["messages"], core["followed"]  # marks of the built-in channels
    assert Configured().model_dump() == core


def test_built_in_namespaces_are_those_of_the_core() -> None:
    assert frozenset(BUILT_IN) == BUILT_IN_NAMESPACES
