"""Configuration: precedence, every problem at once, secrets never shown, config.toml in step with the code."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from gameserver.config import DEVELOPMENT_SECRET, Settings, load_settings
from gameserver.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
GOOD_SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no config.toml of the machine reaches these tests."""
    for name in list(os.environ):
        if name.upper().startswith("GAMESERVER__"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return path


def problems(path: Path | None = None, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, **overrides)
    return caught.value.message


def test_config_toml_lists_every_key_with_its_default() -> None:
    """The file in the repository is the documentation: nothing missing, nothing stale."""
    path = REPOSITORY / "config.toml"
    written = {name: set(section) for name, section in tomllib.loads(path.read_text()).items()}
    declared = {name: set(type(section).model_fields) for name, section in Settings()}
    assert written == declared
    assert load_settings(path) == Settings()


def test_without_a_file_the_defaults_hold() -> None:
    """A server needs no configuration at all."""
    assert load_settings() == Settings()
    assert load_settings().redis.url is None


def test_config_toml_in_the_working_folder_is_found(tmp_path: Path) -> None:
    """The usual place needs no option."""
    (tmp_path / "config.toml").write_text("[server]\nport = 8123\n")
    assert load_settings().server.port == 8123


def test_later_sources_win_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File below environment below overrides, and a key that one leaves out comes from the one below."""
    path = write(tmp_path, '[server]\nhost = "127.0.0.2"\nport = 1\ndrain_seconds = 3\n')
    monkeypatch.setenv("GAMESERVER__SERVER__PORT", "2")
    monkeypatch.setenv("GAMESERVER__SERVER__DRAIN_SECONDS", "4.5")
    server = load_settings(path, server={"port": 3}, server__host=None).server
    assert (server.host, server.port, server.drain_seconds) == ("127.0.0.2", 3, 4.5)
    assert load_settings(path, server__port=5).server.port == 5
    assert load_settings(path).server.port == 2


def test_environment_can_hold_lists_and_empty_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is written with commas; an empty optional is "not set"."""
    monkeypatch.setenv("GAMESERVER__AUTH__PREVIOUS_SECRETS", "one, two")
    monkeypatch.setenv("GAMESERVER__REDIS__URL", "")
    settings = load_settings()
    assert [secret.get_secret_value() for secret in settings.auth.previous_secrets] == ["one", "two"]
    assert settings.redis.url is None


def test_settings_are_frozen() -> None:
    """Nothing changes under a running server."""
    with pytest.raises(ValidationError):
        Settings().server.port = 1  # type: ignore[misc]


def test_all_problems_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, value, what was expected and where it came from, for each."""
    path = write(tmp_path, '[server]\nprot = 1\nport = 70000\n[mongo]\ndriver = "mongoose"\npool_min = 99\n[lmits]\n')
    monkeypatch.setenv("GAMESERVER__LIMITS__CHANNELS_MAX", "many")
    told = problems(path, server={"mode": "production"})
    assert "server.prot: there is no such key; did you mean server.port? (" in told
    assert "server.port = 70000: expected less than or equal to 65535 (" in told
    assert "my.toml" in told
    assert "mongo.driver = 'mongoose': expected 'motor' or 'pymongo'" in told
    assert "lmits: there is no such key; did you mean limits?" in told
    assert "limits.channels_max = 'many': expected a valid integer" in told
    assert "(environment variable GAMESERVER__LIMITS__CHANNELS_MAX)" in told
    assert "auth.secret is the built-in one" in told


def test_pool_sizes_must_fit() -> None:
    """A minimum above the maximum is a mistake, not a preference."""
    assert "redis: expected pool_min to be at most pool_max" in problems(redis={"pool_min": 9, "pool_max": 3})


def test_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelled section in the environment is not ignored."""
    monkeypatch.setenv("GAMESERVER__SERVR__PORT", "1")
    assert "GAMESERVER__SERVR__PORT: there is no section servr; did you mean server?" in problems()


def test_variable_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A section has no value of its own."""
    monkeypatch.setenv("GAMESERVER__SERVER", "1")
    assert "expected GAMESERVER__SECTION__KEY" in problems()


def test_key_in_the_wrong_place_is_recognised(tmp_path: Path) -> None:
    """`port` at the top level belongs to the server section."""
    assert "port: there is no such key; did you mean server.port?" in problems(write(tmp_path, "port = 1\n"))


def test_broken_or_missing_file(tmp_path: Path) -> None:
    """The file's own problems are told as such."""
    assert "is not valid TOML" in problems(write(tmp_path, "[server"))
    assert "cannot be read" in problems(tmp_path / "absent.toml")


def test_a_section_that_is_not_a_table(tmp_path: Path) -> None:
    """The text might be a secret: it is not repeated."""
    told = problems(write(tmp_path, 'auth = "hunter2"\n'))
    assert "auth: expected a table of keys" in told
    assert "hunter2" not in told


SECRET_TEXT = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    "overrides",
    [
        {"auth": {"secrt": SECRET_TEXT}},
        {"auth": {"secret": [SECRET_TEXT]}},
        {"auth": {"previous_secrets": [[SECRET_TEXT]]}},
        {"redis": {"url": f"http://user:{SECRET_TEXT}@host"}},
        {"mongo": {"url": f"http://user:{SECRET_TEXT}@host"}},
        {"server": {"mode": "production"}, "auth": {"secret": SECRET_TEXT}},
        {"server": {"port": "x"}, "auth": {"secret": SECRET_TEXT}, "redis": f"redis://:{SECRET_TEXT}@host"},
    ],
)
def test_no_problem_shows_a_secret(overrides: dict[str, object]) -> None:
    """Whatever is wrong with a secret, or near one, its text stays out of the message."""
    assert SECRET_TEXT not in problems(None, **overrides)


def test_settings_do_not_print_secrets() -> None:
    """Logging the settings is safe."""
    settings = load_settings(auth__secret=SECRET_TEXT, redis__url=f"redis://:{SECRET_TEXT}@host")
    assert SECRET_TEXT not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize("secret", ["", " " * 40, DEVELOPMENT_SECRET, "short"])
def test_production_refuses_weak_secrets(secret: str) -> None:
    """Missing, built-in and short ones; the message says how to make one."""
    told = problems(server__mode="production", auth__secret=secret)
    assert "auth.secret" in told
    assert "openssl rand" in told


def test_production_refuses_the_default() -> None:
    """Saying nothing is not enough either, also when Settings is built directly."""
    assert "built-in" in problems(server__mode="production")
    with pytest.raises(ValidationError):
        Settings(server={"mode": "production"})  # type: ignore[arg-type]


def test_production_accepts_a_secret_of_its_own() -> None:
    """32 bytes are enough."""
    assert load_settings(server__mode="production", auth__secret=GOOD_SECRET).server.mode == "production"


def test_a_watchdog_quicker_than_the_loss_of_a_lease_is_refused() -> None:
    """A node that stalls loses its matches first; ending the process is for what does not come back by itself."""
    assert "expected 0, or more than cluster.stall_ms_max" in problems(server__watchdog_seconds=0.5)
    assert load_settings(server__watchdog_seconds=0).server.watchdog_seconds == 0
