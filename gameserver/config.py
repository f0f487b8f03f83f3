"""Settings: `config.toml`, then the environment, then the command line; frozen, and checked before anything starts.

The order of precedence, lowest first: the defaults in this file, `config.toml`, environment variables
(`GAMESERVER__SERVER__PORT=9000`), overrides from the command line. Only `load_settings` reads files or the environment:
`Settings()` is always the defaults. Every key with its default is listed in the repository's `config.toml`.
Whatever is wrong is reported at once, each with its key and what was expected; values that may be secret are not shown.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gameserver.errors import ConfigError

ENVIRONMENT_PREFIX = "GAMESERVER__"
DEFAULT_PATH = Path("config.toml")
DEVELOPMENT_SECRET = "development-only-secret-never-use-it-in-production"  # noqa: S105 - known to everyone, refused in production
SECRET_BYTES_MIN = 32

Mode = Literal["development", "production"]


def _empty_is_none(value: object) -> object:
    """TOML has no null: an empty text stands for "not set"."""
    return None if value == "" else value


def _split_text(value: object) -> object:
    """A list may be written `a,b,c`, which is all that an environment variable can hold comfortably."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _known_scheme(*schemes: str) -> AfterValidator:
    def check(value: SecretStr | None) -> SecretStr | None:
        # The text itself may hold a password, so the message names only what was expected.
        if value is not None and not value.get_secret_value().startswith(schemes):
            raise PydanticCustomError("url_scheme", "expected an address that starts with " + " or ".join(schemes))
        return value

    return AfterValidator(check)


Seconds = Annotated[float, Field(gt=0, le=86_400 * 366, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
CountOrZero = Annotated[int, Field(ge=0, le=2**31 - 1)]
Port = Annotated[int, Field(ge=0, le=65_535)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_is_none)]
RedisUrl = Annotated[
    SecretStr | None, BeforeValidator(_empty_is_none), _known_scheme("redis://", "rediss://", "unix://")
]
MongoUrl = Annotated[SecretStr | None, BeforeValidator(_empty_is_none), _known_scheme("mongodb://", "mongodb+srv://")]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split_text), NoDecode]
Roles = Annotated[tuple[Literal["edge", "owner"], ...], BeforeValidator(_split_text), Field(min_length=1), NoDecode]


class Section(BaseModel):
    """One `[section]` of the configuration: frozen, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    """Where the server listens and how it stops."""

    host: str = "127.0.0.1"
    port: Port = 8000
    mode: Mode = "development"
    node_id: OptionalText = None
    reuse_port: bool = False
    direct_port: Annotated[Port | None, BeforeValidator(_empty_is_none)] = None
    drain_seconds: Seconds = 8.0
    presence_seconds: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 60.0
    watchdog_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 5.0


class AuthSettings(Section):
    """Tokens. `previous_secrets` are still accepted, never used to issue: that is how a secret is changed."""

    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    previous_secrets: Secrets = ()
    algorithm: Literal["HS256", "HS384", "HS512"] = "HS256"
    token_ttl_seconds: Count = 86_400
    guest_ttl_seconds: Count = 86_400


class PoolSection(Section):
    """Connections to one store: how many are kept, how many there may be, how long an idle one stays."""

    pool_min: CountOrZero = 1
    pool_max: Count = 32
    pool_wait_seconds: Seconds = 5.0
    pool_idle_seconds: Seconds = 60.0
    connect_timeout_seconds: Seconds = 3.0

    @model_validator(mode="after")
    def _pool_fits(self) -> Self:
        if self.pool_min > self.pool_max:
            raise PydanticCustomError("pool", "expected pool_min to be at most pool_max")
        return self


class RedisSettings(PoolSection):
    """The Redis (or Valkey) that holds snapshots. Without a url an embedded one is started under `data.dir`."""

    url: RedisUrl = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "gs"
    timeout_seconds: Seconds = 5.0
    journal_pool_max: Count = 16
    journal_timeout_seconds: Seconds = 2.0
    wait_replicas: CountOrZero = 0
    wait_replicas_ms: Count = 500


class MongoSettings(PoolSection):
    """The MongoDB that holds documents. Without a url an embedded one is started under `data.dir`."""

    url: MongoUrl = None
    database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,38}$")] = "gameserver"
    driver: Literal["motor", "pymongo"] = "motor"
    server_selection_timeout_seconds: Seconds = 3.0
    timeout_seconds: Seconds = 10.0


class RecordsSettings(Section):
    """How records of matches reach MongoDB: HIGH ones at once, the rest by size or by time, whichever comes first."""

    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 100
    batch_interval_ms: Count = 1000
    queue_records_max: Count = 10_000
    queue_bytes_max: Annotated[int, Field(ge=2**21)] = 67_108_864
    retry_seconds_min: Seconds = 0.1
    retry_seconds_max: Seconds = 5.0
    close_seconds: Seconds = 1.0


class DataSettings(Section):
    """The folder of the embedded stores and how long they may take to start and to stop."""

    dir: Path = Path("data")
    start_seconds: Seconds = 15.0
    stop_seconds: Seconds = 3.0
    restart_seconds_max: Seconds = 5.0


class MatchSettings(Section):
    """Matches on this node. What a game decides for itself (ticks, players, …) is set on its class."""

    snapshot_interval_seconds: Seconds = 10.0
    snapshot_idle_seconds: Seconds = 1.0
    resume_frames_max: CountOrZero = 128
    resume_bytes_max: CountOrZero = 262_144
    journal_interval_ms: Annotated[int, Field(ge=1, le=10_000)] = 100
    gate_timeout_seconds: Seconds = 5.0
    unjournaled_ms_max: Annotated[int, Field(ge=1_000)] = 30_000


class ClusterSettings(Section):
    """This node among others: what it does, how long it counts as alive, how it takes over matches of dead ones."""

    roles: Roles = ("edge", "owner")
    address: OptionalText = None
    lease_seconds: Annotated[float, Field(ge=0.2, le=300, allow_inf_nan=False)] = 2.0
    stall_ms_max: Annotated[int, Field(ge=50)] = 1000
    adrift_seconds_max: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 30.0
    takeover_chunk: Annotated[int, Field(ge=1, le=1000)] = 16
    takeover_step_in_ms: Count = 500
    takeover_attempts_max: Count = 5
    takeover_suspects_max: Count = 3
    scan_seconds: Seconds = 5.0


class LimitsSettings(Section):
    """What one node, one connection and one message may use at most."""

    connections_max: Count = 10_000
    matches_max: Count = 10_000
    channels_max: Count = 16
    hello_timeout_seconds: Seconds = 10.0
    heartbeat_seconds: Seconds = 20.0
    messages_per_second: Count = 100
    messages_burst: Count = 200
    message_bytes_max: Annotated[int, Field(ge=256, le=16 * 2**20)] = 65_536
    depth_max: Annotated[int, Field(ge=4, le=64)] = 16
    items_max: Count = 4096
    string_bytes_max: Count = 16_384
    send_buffer_bytes_max: Annotated[int, Field(ge=4096)] = 262_144
    slow_consumer_seconds_max: Seconds = 10.0
    http_body_bytes_max: Annotated[int, Field(ge=256, le=16 * 2**20)] = 65_536


class LogSettings(Section):
    """Log lines go to standard error: for people (`console`) or for programs (`json`)."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["console", "json"] = "console"


class Settings(BaseSettings):
    """All settings. `Settings()` is the defaults; `load_settings` is what a server uses."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    redis: RedisSettings = RedisSettings()
    mongo: MongoSettings = MongoSettings()
    records: RecordsSettings = RecordsSettings()
    data: DataSettings = DataSettings()
    match: MatchSettings = MatchSettings()
    cluster: ClusterSettings = ClusterSettings()
    limits: LimitsSettings = LimitsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed counts: a test that builds `Settings(...)` must not depend on its environment."""
        return (init_settings,)

    @model_validator(mode="after")
    def _secret_fits_mode(self) -> Self:
        problem = secret_problem(self.server.mode, self.auth.secret.get_secret_value())
        if problem:
            raise PydanticCustomError("secret", "{problem}", {"problem": problem})
        return self

    @model_validator(mode="after")
    def _watchdog_is_patient(self) -> Self:
        # A node that stalls loses its matches first: ending the process is for what would not come back by itself.
        if 0 < self.server.watchdog_seconds * 1000 <= self.cluster.stall_ms_max:
            raise PydanticCustomError(
                "sections", "server.watchdog_seconds: expected 0, or more than cluster.stall_ms_max"
            )
        return self


def secret_problem(mode: str, secret: str) -> str | None:
    """What is wrong with the secret in this mode, or None. In development the built-in one will do."""
    if mode != "production":
        return None if secret else "auth.secret: expected a text that is not empty"
    advice = (
        f"production mode needs a secret of your own of at least {SECRET_BYTES_MIN} bytes: "
        "set GAMESERVER__AUTH__SECRET, for example to the output of `openssl rand -base64 48`"
    )
    if not secret.strip():
        return f"auth.secret is missing: {advice}"
    if secret == DEVELOPMENT_SECRET:
        return f"auth.secret is the built-in one that everyone knows: {advice}"
    if len(secret.encode()) < SECRET_BYTES_MIN:
        return f"auth.secret is too short: {advice}"
    return None


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """The settings from `path` (default: `config.toml` here, if there is one), the environment and `overrides`.

    Overrides are sections (`server={"port": 9000}`) or single keys (`server__port=9000`); None means "not given".
    Raises `ConfigError` that lists every problem.
    """
    file_values = _read_file(path)
    environment, problems = _read_environment()
    values = _merge(_merge(file_values, environment), _expand(overrides))
    settings = None
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [_describe(detail, path or DEFAULT_PATH, file_values) for detail in error.errors()]
        problems += _hidden_secret_problem(error, values)
    if settings is None or problems:
        raise ConfigError("The configuration is not valid:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings


# --- reading ----------------------------------------------------------------------------------------------------------
def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None and not DEFAULT_PATH.exists():
        return {}
    chosen = path or DEFAULT_PATH
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {chosen} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {chosen} is not valid TOML: {error}.") from None


def _read_environment() -> tuple[dict[str, Any], list[str]]:
    """The environment's values, and a problem for each variable that names no section (pydantic ignores those)."""
    problems = []
    for name in sorted(os.environ):
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            section, _, key = name[len(ENVIRONMENT_PREFIX) :].lower().partition("__")
            if section not in Settings.model_fields:
                problems.append(f"environment variable {name}: there is no section {section}{_suggest((section,))}")
            elif not key:
                problems.append(f"environment variable {name}: expected {ENVIRONMENT_PREFIX}SECTION__KEY")
    if problems:
        return {}, problems
    try:
        return dict(EnvSettingsSource(Settings)()), []
    except SettingsError as error:  # its cause shows the value, which may be a secret: keep only the field's name
        return {}, [f"environment: {str(error).split(' from source', maxsplit=1)[0]}"]


def _expand(overrides: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in overrides.items():
        if value is None:
            continue
        section, _, key = name.partition("__")
        values = _merge(values, {section: {key: value}} if key else {section: value})
    return values


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


# --- telling what is wrong --------------------------------------------------------------------------------------------
def _describe(detail: ErrorDetails, path: Path, file_values: Mapping[str, Any]) -> str:
    location = tuple(str(part) for part in detail["loc"])
    name = ".".join(location)
    if detail["type"] == "extra_forbidden":
        # The value is not shown: a misspelled `auth.secret` would land in a log.
        return f"{name}: there is no such key{_suggest(location)}{_origin(location, path, file_values)}"
    if detail["type"] in ("secret", "sections"):
        return str(detail["msg"])
    expected = str(detail["msg"]).replace("Input should be", "expected")
    if not expected.startswith("expected"):
        expected = expected[:1].lower() + expected[1:]
    if len(location) <= 1:  # a whole section: may hold secrets
        return f"{name}: {'expected a table of keys' if 'type' in detail['type'] else expected}"
    shown = "(hidden)" if _is_secret(location) else repr(detail["input"])
    return f"{name} = {shown}: {expected}{_origin(location, path, file_values)}"


def _origin(location: tuple[str, ...], path: Path, file_values: Mapping[str, Any]) -> str:
    """Where the value came from, as far as that can be told."""
    variable = ENVIRONMENT_PREFIX + "__".join(location[:2]).upper()
    if any(name.upper() == variable for name in os.environ):
        return f" (environment variable {variable})"
    found: Any = file_values
    for part in location[:2]:
        found = found.get(part) if isinstance(found, Mapping) else None
    return f" ({path})" if found is not None else ""


def _suggest(location: tuple[str, ...]) -> str:
    """A nearby key, or the list of what would have been right there."""
    if len(location) == 1:
        known, prefix = list(Settings.model_fields), ""
        elsewhere = [f"{section}.{key}" for section, key, _ in _keys() if key == location[0]]
    else:
        known, prefix = [key for section, key, _ in _keys() if section == location[0]], f"{location[0]}."
        elsewhere = [f"{section}.{key}" for section, key, _ in _keys() if key == location[1]]
    near = difflib.get_close_matches(location[-1], known, n=1)
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return f"; expected one of: {', '.join(known)}"


def _keys() -> Iterator[tuple[str, str, Any]]:
    for section, field in Settings.model_fields.items():
        section_class: type[Section] = cast("type[Section]", field.annotation)
        for key, inner in section_class.model_fields.items():
            yield section, key, inner.annotation


def _is_secret(location: tuple[str, ...]) -> bool:
    return any((section, key) == location[:2] and _mentions_secret(annotation) for section, key, annotation in _keys())


def _mentions_secret(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return any(_mentions_secret(part) for part in get_args(annotation))
    return annotation is SecretStr


def _hidden_secret_problem(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    """Pydantic skips the check across sections while one key is wrong; people want the whole list at once."""
    if any(detail["type"] == "secret" for detail in error.errors()):
        return []
    server, auth = values.get("server", {}), values.get("auth", {})
    if not isinstance(server, Mapping) or not isinstance(auth, Mapping):
        return []
    problem = secret_problem(str(server.get("mode", "development")), str(auth.get("secret", DEVELOPMENT_SECRET)))
    return [problem] if problem else []
