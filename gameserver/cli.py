"""The command line: `gameserver run | new | token | matches | version`. What goes wrong is told, with exit code 2."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from gameserver import __version__
from gameserver.access import Role, issue_token
from gameserver.config import Settings, load_settings
from gameserver.errors import ConfigError, GameServerError, RequestInvalid
from gameserver.loading import EXAMPLES, load_games
from gameserver.scaffold import write_game

EXIT_ERROR = 2
HTTP_SECONDS = 10.0
DRAIN_POLL_SECONDS = 0.2

app = typer.Typer(
    name="gameserver",
    help="An authoritative multiplayer game state server: write one class in plain Python, and it is served.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
matches_app = typer.Typer(
    help="See what a running server plays. Without a subcommand: list.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(matches_app, name="matches")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (default: config.toml here, if there is one).")
]
UrlOption = Annotated[
    str | None, typer.Option("--url", "-u", help="The server's address (default: from the configuration).")
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", help="A token to show (default: one made with the configured secret).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]


@app.command("run")
def run_command(
    games: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[GAMES]...",
            help="Game files (my_game.py) or modules (package.module); the example games when none is named.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on.", show_default="8000")] = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", help="How many processes share the port; each is a node of its own.")
    ] = 1,
) -> None:
    """Serve games until Ctrl-C or SIGTERM.

    Without configured URLs the stores are started too, and keep their data under data/.
    Environment variables override the configuration file: GAMESERVER__SERVER__PORT=9000.
    """
    settings = load_settings(config, server__host=host, server__port=port)
    named = games or [EXAMPLES]
    # The edges are not needed for the other commands, which start faster so.
    if workers != 1:
        from gameserver.workers import run_workers

        load_games(named)  # what is wrong with them is told once, not by each worker
        sys.exit(run_workers(settings, workers, named, config, _announce_workers if sys.stderr.isatty() else None))
    from gameserver import app as server

    alone = settings.server.direct_port is None
    server.run(settings, load_games(named), _announce if alone and sys.stderr.isatty() else None)


def _announce(application: Any) -> None:
    typer.echo(f"\n  {application.url}   games: {', '.join(application.registry)}   (Ctrl-C stops)\n", err=True)


def _announce_workers(url: str, count: int) -> None:
    typer.echo(f"\n  {url}   {count} processes   (Ctrl-C stops, SIGHUP restarts them one by one)\n", err=True)


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(help="Name of the game, like my_game.", show_default=False)],
    folder: Annotated[Path, typer.Option("--dir", help="Folder to write into.")] = Path(),
) -> None:
    """Write a new game, with a test, to start from."""
    game, test = write_game(name, folder)
    typer.echo(f"Wrote {game} and {test}.\n\n  gameserver run {game}\n  python -m pytest {test}")


@app.command("token")
def token_command(
    user: Annotated[str, typer.Option("--user", help="User id.", show_default=False)],
    role: Annotated[Role, typer.Option("--role", help="What the user may do.")] = Role.PLAYER,
    name: Annotated[str | None, typer.Option("--name", help="Name shown to others (default: the user id).")] = None,
    ttl_seconds: Annotated[
        int | None, typer.Option("--ttl", help="Seconds until it expires (default: auth.token_ttl_seconds).")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print a token for development and tests, signed with the configured secret."""
    typer.echo(make_token(load_settings(config), user, role, name=name, ttl_seconds=ttl_seconds))


def make_token(
    settings: Settings, user: str, role: Role, *, name: str | None = None, ttl_seconds: int | None = None
) -> str:
    """A token as this server would accept it."""
    if ttl_seconds is not None and ttl_seconds <= 0:
        raise RequestInvalid("--ttl: expected a number of seconds above 0")
    return issue_token(
        settings.auth.secret.get_secret_value(),
        user,
        role,
        name=name,
        now=time.time(),
        ttl_seconds=ttl_seconds if ttl_seconds is not None else settings.auth.token_ttl_seconds,
        algorithm=settings.auth.algorithm,
    )


@matches_app.callback()
def matches_command(context: typer.Context, url: UrlOption = None, config: ConfigOption = None) -> None:
    """See what a running server plays."""
    if context.invoked_subcommand is None:
        list_command(url=url, config=config)
    else:
        context.obj = (url, config)


@matches_app.command("list")
def list_command(
    context: typer.Context | None = None,
    game: Annotated[str | None, typer.Option("--game", help="Only matches of this game.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")] = 100,
    url: UrlOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the running matches."""
    query = {"limit": str(limit), **({"game": game} if game else {})}
    answer = ask(f"/v1/matches?{urllib.parse.urlencode(query)}", url, token, config, context)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    if not answer["matches"]:
        typer.echo("No match is running.")
        return
    typer.echo(f"{'MATCH':<14} {'GAME':<16} {'PLAYERS':>9} {'WATCHING':>9} {'AGE':>9}  SUMMARY")
    for match in answer["matches"]:
        players = f"{match['players']}/{match['players_max']}"
        age = _age(time.time() - match["created_at"])
        summary = ", ".join(f"{key}={value}" for key, value in match["summary"].items())
        line = f"{match['match']:<14} {match['game']:<16} {players:>9} {match['spectators']:>9} {age:>9}  {summary}"
        typer.echo(line.rstrip())
    if answer.get("next_cursor"):
        typer.echo(f"(the first {limit}; --limit shows up to 100, --json has the cursor)")


@matches_app.command("show")
def show_command(
    context: typer.Context,
    match: Annotated[str, typer.Argument(help="Match id.", show_default=False)],
    url: UrlOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one match."""
    answer = ask(f"/v1/matches/{urllib.parse.quote(match, safe='')}", url, token, config, context)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    width = max(map(len, answer))
    for key, value in answer.items():
        typer.echo(f"{key:<{width}}  {json.dumps(value) if isinstance(value, dict) else value}")


@app.command("drain")
def drain_command(
    node: Annotated[
        str | None, typer.Argument(help="The node's name (default: the node at --url).", show_default=False)
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    config: ConfigOption = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
) -> None:
    """Have a node hand all of its matches to others, before you stop it. It takes no new ones from then on."""
    if node is not None:
        url = _address_of(node, ask("/v1/admin/nodes", url, token, config)["nodes"])
    state = ask("/v1/admin/drain", url, token, config, method="POST")
    while wait and not state["done"]:
        time.sleep(DRAIN_POLL_SECONDS)
        state = ask("/v1/admin/drain", url, token, config)
    told = f"{state['node']}: {state['handed_over']} matches handed over, {state['left']} left"
    typer.echo(f"{told}, {state['seconds']:.1f} s" if state["done"] else f"{told}, going on")
    if wait and state["left"]:
        raise typer.Exit(1)


def _address_of(node: str, nodes: list[dict[str, Any]]) -> str:
    for row in nodes:
        if row["node"] == node:
            address = str(row["address"])
            if "://" not in address:
                return f"http://{address}"
            return address.replace("wss://", "https://", 1).replace("ws://", "http://", 1)
    known = ", ".join(sorted(row["node"] for row in nodes)) or "none"
    raise ConfigError(f"There is no node {node!r}; there is: {known}. Or name the node's own address with --url.")


@app.command("version")
def version_command() -> None:
    """Print the version."""
    typer.echo(f"gameserver {__version__}")


def ask(
    path: str,
    url: str | None,
    token: str | None,
    config: Path | None,
    context: typer.Context | None = None,
    *,
    method: str = "GET",
) -> Any:
    """One request to a running server; what it answers with an error is raised as a `ConfigError` to be shown."""
    if context is not None and isinstance(context.obj, tuple):
        url, config = url or context.obj[0], config or context.obj[1]
    settings = load_settings(config)
    host = settings.server.host if settings.server.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
    base = (url or f"http://{host}:{settings.server.port}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise RequestInvalid(f"--url: expected an address like http://127.0.0.1:8000, not {base!r}")
    token = token or make_token(settings, "gameserver-cli", Role.ADMIN, ttl_seconds=60)
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(base + path, headers=headers, method=method)  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as response:  # noqa: S310 - checked above
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{base} answered {error.code}: {_error_text(error)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"No game server answers at {base} ({reason}). "
            "Start one with `gameserver run`, or name its address with --url."
        ) from None


def _error_text(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def main() -> None:
    """The console script."""
    try:
        app()
    except GameServerError as error:
        typer.echo(f"gameserver: {error.message}", err=True)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
