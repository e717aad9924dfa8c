"""Which RANKGATE_* variables are no settings: a mistyped one would be ignored in silence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

__all__ = ["PREFIX", "unknown_variables"]

PREFIX = "RANKGATE_"

# Options of the command line, the settings of the console, and what the project's own tests and scripts are told.
_TOOLS = re.compile(r"RANKGATE_(CLI_.+|CONSOLE_.+|CACHE|DEMO(_.+)?|OPA|ORACLE|TEST_.+)")
# Kubernetes gives every pod such variables for a Service whose name begins with `rankgate`.
_SERVICE = re.compile(r"RANKGATE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


def unknown_variables(environment: Mapping[str, str], sections: Collection[str]) -> list[str]:
    """Return the names of RANKGATE_* variables that no setting, tool or Kubernetes Service explains, sorted.

    `sections` are the names of the top level. What a known section holds is checked with the section; an empty
    variable counts as unset, as it does for settings.
    """
    unknown = []
    for variable, value in environment.items():
        name = variable.upper()
        section = name.removeprefix(PREFIX).partition("__")[0].lower()
        if not name.startswith(PREFIX) or not value or section in sections:
            continue
        linked = _SERVICE.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.fullmatch(value))
        if not linked and not _TOOLS.fullmatch(name):
            unknown.append(variable)
    return sorted(unknown)
