"""Write rankgate/values.schema.json: the chart's values, with the settings of gate and console from their own schemas.

Run it after a change of a setting: python deploy/helm/values_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rankgate.console.settings import ConsoleSettings
from rankgate.settings import Settings

__all__ = ["OWNED", "text"]

TARGET = Path(__file__).parent / "rankgate" / "values.schema.json"
Schema = dict[str, Any]

# What the chart sets itself (templates/_helpers.tpl): a value for one of these would have no effect, so it is refused.
OWNED = {
    "Settings": ("sockets", "health"),
    "ListenSettings": ("address", "port", "certificate_file", "key_file", "insecure_plaintext"),
    "UpstreamSettings": ("url", "trusted_ca"),
    "MaskingSettings": ("key_file",),
    "PolicySettings": ("engine", "directory", "url", "ca_file"),
    "CredentialSettings": ("broker", "file"),
    "MintedSettings": ("key_file",),
    "ExchangeSettings": ("client_secret_file", "client_key_file"),
    "ApprovalSettings": ("vote_keys", "redis_password_file", "redis_ca_file"),
    "AuditSettings": ("directory", "pod_uid", "redis_password_file", "redis_ca_file"),
}

# The same of the console's (templates/_console.tpl).
OWNED_BY_CONSOLE = {
    "ConsoleSettings": (
        "deployment", "vote_key_file", "preview_key_file", "vote_keys", "listen", "state", "journal", "health",
    ),
    "LoginSettings": ("client_secret_file",),
    "TrailSettings": ("redis_password_file", "redis_ca_file"),
    "WebhookSettings": ("secret_file",),
}  # fmt: skip

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MANY: Schema = {"type": "integer", "minimum": 1}
# As many as Envoy's configuration is rendered for.
SLOTS: Schema = {"type": "integer", "minimum": 1, "maximum": 64}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
# Kubernetes' own objects, which the API server checks.
OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": OBJECT}
WORDS: Schema = {"type": "array", "items": TEXT}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def closed(**properties: Schema) -> Schema:
    """Return the schema of an object with these members and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


IMAGE = closed(
    repository=TEXT,
    tag=TEXT,
    digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
)


def chart() -> Schema:
    """Return the schema of everything but the settings."""
    return closed(
        image=IMAGE,
        imagePullSecrets=OBJECTS,
        nameOverride=TEXT,
        fullnameOverride=TEXT,
        replicaCount=COUNT,
        serviceAccount=closed(create=FLAG, name=TEXT, annotations=TEXTS),
        settings={"$ref": "#/definitions/Settings"},
        keys=closed(existingSecret=TEXT, upstreamKey=FLAG, mintingKeys=FLAG, exchangeSecret=FLAG, signingKey=FLAG),
        tls=closed(existingSecret=TEXT),
        jwks=closed(configMap=TEXT),
        policy=closed(configMap=TEXT, files=TEXTS, data=OBJECT),
        opa=closed(enabled=FLAG, image=IMAGE, resources=OBJECT),
        filters=closed(
            processes=closed(authz=SLOTS, proc=SLOTS), resources=OBJECT, extraEnv=OBJECTS, extraVolumeMounts=OBJECTS
        ),
        envoy=closed(image=IMAGE, resources=OBJECT),
        audit=closed(volume=OBJECT, redis=closed(existingSecret=TEXT)),
        approvals=closed(
            voteKeys=closed(configMap=TEXT, files={"type": "array", "items": NAME, "minItems": 1}),
            redis=closed(existingSecret=TEXT),
        ),
        console=closed(
            enabled=FLAG,
            settings={"$ref": "#/definitions/ConsoleSettings"},
            keys=closed(existingSecret=TEXT),
            login=closed(existingSecret=TEXT),
            webhook=closed(existingSecret=TEXT),
            audit=closed(existingSecret=TEXT),
            tls=closed(existingSecret=TEXT),
            journal=closed(existingClaim=TEXT, size=NAME, storageClass=TEXT),
            service=closed(port=PORT, annotations=TEXTS),
            ingress=closed(enabled=FLAG, className=TEXT, annotations=TEXTS, tlsSecret=TEXT),
            peers=OBJECTS,
            resources=OBJECT,
            extraEnv=OBJECTS,
            extraVolumes=OBJECTS,
            extraVolumeMounts=OBJECTS,
            podAnnotations=TEXTS,
            podLabels=TEXTS,
            nodeSelector=TEXTS,
            tolerations=OBJECTS,
            affinity=OBJECT,
        ),
        reranker=closed(
            image=IMAGE,
            command=WORDS,
            args=WORDS,
            port=PORT,
            env=OBJECTS,
            envFrom=OBJECTS,
            readinessProbe=OBJECT,
            livenessProbe=OBJECT,
            startupProbe=OBJECT,
            preStopSeconds={"type": "integer", "minimum": 10},
            resources=OBJECT,
            securityContext=OBJECT,
            volumeMounts=OBJECTS,
        ),
        service=closed(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=PORT, annotations=TEXTS),
        terminationGracePeriodSeconds=COUNT,
        podDisruptionBudget=closed(enabled=FLAG, maxUnavailable={"type": ["integer", "string"]}),
        autoscaling=closed(enabled=FLAG, minReplicas=MANY, maxReplicas=MANY, targetCPUUtilizationPercentage=MANY),
        networkPolicy=closed(enabled=FLAG, callers=OBJECTS, scrapers=OBJECTS, egress=OBJECTS),
        metrics=closed(podMonitor=closed(enabled=FLAG, interval=NAME, labels=TEXTS)),
        podAnnotations=TEXTS,
        podLabels=TEXTS,
        extraVolumes=OBJECTS,
        nodeSelector=TEXTS,
        tolerations=OBJECTS,
        affinity=OBJECT,
        topologySpreadConstraints=OBJECTS,
        # Helm's own.
        **{"global": OBJECT},
    )


def text() -> str:
    """Return the file's text. Draft 7, which every Helm 3 and 4 reads."""
    definitions = _definitions(Settings, "", OWNED)
    # Both have sections of one name.
    definitions |= _definitions(ConsoleSettings, "Console", OWNED_BY_CONSOLE)
    for definition in definitions.values():
        definition["required"] = [name for name in definition.get("required", ()) if name in definition["properties"]]
    # Sections that only the chart fills are no duty of its user.
    definitions["Settings"]["required"] = ["issuers"]
    # The chart asks for these by name, once there is a console.
    for name in ("ConsoleSettings", "ConsoleLoginSettings"):
        definitions[name]["required"] = []
    used = {name for name in definitions if f'"#/definitions/{name}"' in json.dumps([definitions, chart()])}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the rankgate chart",
        **chart(),
        "definitions": {name: _tidy(definitions[name]) for name in sorted(used)},
    }
    return json.dumps(schema, indent=1) + "\n"


def _definitions(settings: type[BaseModel], prefix: str, owned: dict[str, tuple[str, ...]]) -> dict[str, Schema]:
    """Return the definitions of `settings` without what the chart sets itself, the sections' names behind `prefix`."""
    found = settings.model_json_schema(ref_template=f"#/definitions/{prefix}{{model}}")
    definitions = {f"{prefix}{name}": definition for name, definition in found.pop("$defs").items()}
    definitions[settings.__name__] = found
    for name, members in owned.items():
        for member in members:
            del definitions[name if name == settings.__name__ else f"{prefix}{name}"]["properties"][member]
    return definitions


def _tidy(value: Any) -> Any:
    """Leave out titles and defaults, and the null that a file of settings cannot hold."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept: Schema = {
        name: _tidy_members(item) if name == "properties" else _tidy(item)
        for name, item in value.items()
        if name not in {"title", "default"}
    }
    choices = [choice for choice in kept.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) > 1:
        kept["anyOf"] = choices
    elif choices:
        kept.update(choices[0])
    return kept


def _tidy_members(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: _tidy(schema) for name, schema in properties.items()}


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
