"""Generated secrets, and what is shown of any."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from config.secrets import masked, with_secrets
from config.settings import Settings, SettingsError, load_settings

pytestmark = pytest.mark.usefixtures("clean")


def test_secrets_are_made_once_and_kept(clean: Path) -> None:
    first = with_secrets(load_settings())
    assert first.token.hmac_secret and len(first.token.hmac_secret) >= 32
    assert first.api.key and first.api.key != first.token.hmac_secret
    assert with_secrets(load_settings()) == first
    kept = sorted(path.name for path in (clean / "chalkwire-data").iterdir())
    assert kept == ["api_key", "token_secret"]


def test_secrets_are_private(clean: Path) -> None:
    with_secrets(load_settings())
    folder = clean / "chalkwire-data"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_given_secrets_are_used_and_nothing_is_written(clean: Path) -> None:
    given = {"token": {"hmac_secret": "s" * 32}, "api": {"key": "k" * 16}}
    settings = with_secrets(load_settings(overrides=given))
    assert settings.token.hmac_secret == "s" * 32
    assert settings.api.key == "k" * 16
    assert not (clean / "chalkwire-data").exists()


def test_the_first_of_two_makers_wins(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the secret between our look and our link."""
    folder = clean / "chalkwire-data"
    folder.mkdir()
    hardlink_to = Path.hardlink_to

    def late(self: Path, target: Path) -> None:
        self.write_text(f"{self.name:x<40}\n")
        hardlink_to(self, target)

    monkeypatch.setattr(Path, "hardlink_to", late)
    assert with_secrets(load_settings()).api.key == f"{'api_key':x<40}"
    assert sorted(path.name for path in folder.iterdir()) == ["api_key", "token_secret"]


def test_a_directory_that_cannot_be_written_is_a_sentence(clean: Path) -> None:
    (clean / "file").touch()
    with pytest.raises(SettingsError, match=r"cannot be kept: Not a directory .* CHALKWIRE_DATA_DIR"):
        with_secrets(load_settings(overrides={"data_dir": clean / "file" / "data"}))


def test_an_empty_secret_is_refused(clean: Path) -> None:
    """A disk that was full may have left one; tokens signed with it would be anyone's."""
    (clean / "chalkwire-data").mkdir()
    (clean / "chalkwire-data" / "token_secret").touch()
    with pytest.raises(SettingsError, match="token_secret holds no secret"):
        with_secrets(load_settings())


def test_masked_settings_are_toml_that_gives_the_same_settings() -> None:
    settings = load_settings(
        overrides={
            "client": {"allowed_origins": ["https://a\x7f\u2603"], "outbox": "2MiB"},
            "channel": {"namespaces": {"chat": {"presence": True}, "a.b": {}}},
            "token": {
                "issuers": {
                    "campus": {
                        "issuer": "https://login.example",
                        "jwks_url": "http://localhost:1/keys",
                        "audience": "chalkwire",
                        "algorithms": "ES256,EdDSA",
                        "roles": {'a.b "c"': "teacher"},
                    }
                }
            },
        }
    )
    assert Settings.model_validate(tomllib.loads(masked(settings))) == settings


def test_masked_settings_show_no_secret() -> None:
    settings = load_settings(
        overrides={
            "token": {"hmac_secret": "hush" * 8},
            "api": {"key": "hush" * 8},
            "database": {"url": "postgresql://user:hush@host/db?password=hush&x=1"},
            "redis": {"url": "redis://:hush@host"},
            "nats": {"url": "nats://hush@host"},
        }
    )
    text = masked(settings)
    assert "hush" not in text
    assert 'hmac_secret = "(hidden)"' in text
    assert 'url = "postgresql://(hidden)@host/db?password=(hidden)&x=1"' in text
    assert 'url = "nats://(hidden)@host"' in text
    assert "hush" not in repr(settings)
