"""The filters' logs: structlog, JSON lines on standard error, secrets dropped by one processor at any depth."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from rankgate.settings import LogSettings

__all__ = ["configure", "logger"]

# A member whose name ends in one of these words is never written, wherever it stands; `_` and `-` divide words.
SECRET = frozenset({"authorization", "cookie", "credential", "key", "lease", "password", "secret", "token", "value"})


def configure(settings: LogSettings) -> None:
    """Set the process's logging up. Library loggers are raised to warnings and rendered without their exceptions."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    renderer = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _drop_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryHandler()], force=True)


def logger(component: str) -> Any:
    """Return the logger of one component."""
    return structlog.get_logger(component=component)


def _drop_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _plain(name, value) for name, value in event.items()}


def _plain(name: object, value: object) -> object:
    """Return what may be written of a member: plain values, without secrets at any depth.

    Of any other object only its type is written: how it would describe itself is not ours to say.
    """
    if str(name).lower().replace("_", "-").rpartition("-")[2] in SECRET:
        return "***"
    if isinstance(value, Mapping):
        return {str(inner): _plain(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain("", item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value) if isinstance(value, Path) else f"<{type(value).__name__}>"


class _LibraryHandler(logging.Handler):
    """Says that a library complained, and where. Its text may quote a request, so it is left out."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        logger("library").warning("library_warning", library=record.name, line=record.lineno, error=kind)
