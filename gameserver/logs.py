"""Logs: one line per event with named values, for people on a terminal or as JSON for programs. To standard error.

Our own code logs through structlog, games and libraries through `logging`; both end in the same lines. Tokens and
secrets are never passed to a logger, and what is named like one is blanked all the same.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from gameserver.config import LogSettings

SECRET_NAMES = frozenset({"token", "secret", "password", "authorization", "previous_secrets"})


def configure_logging(settings: LogSettings) -> None:
    """Set both structlog and `logging` up for this process."""
    level = logging.getLevelNamesMapping()[settings.level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        blank_secrets,
    ]
    if settings.format == "json":
        ending: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        ending = [
            # Plain tracebacks: rich ones show local variables, and those hold tokens.
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # Theirs at INFO is about themselves, not about this server.
    for name in ("asyncio", "pymongo", "aiohttp", "redis"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def blank_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last line of defence: a value under such a name does not reach the log."""
    for name in SECRET_NAMES.intersection(event):
        event[name] = "…"
    return event
