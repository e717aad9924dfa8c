"""An issuer with the device grant, and with everything that a broken or hostile one does there."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

from fakes.http_server import Exchange

__all__ = ["DeviceIssuer", "unsigned_jwt"]


class DeviceIssuer:
    """`answers` are the errors of the next polls, then a token is given; members of the three dicts replace others'."""

    def __init__(self, *answers: str) -> None:
        self.url = ""
        self.answers = list(answers)
        self.metadata: dict[str, Any] = {}
        self.device: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.token = ""
        self.forms: list[tuple[str, dict[str, str]]] = []

    def answer(self, exchange: Exchange) -> None:
        form = {name: values[0] for name, values in parse_qs(exchange.body.decode()).items()}
        self.forms.append((exchange.path, form))
        match exchange.path:
            case "/.well-known/openid-configuration":
                exchange.json({
                    "issuer": self.url,
                    "device_authorization_endpoint": f"{self.url}/device",
                    "token_endpoint": f"{self.url}/token",
                } | self.metadata)  # fmt: skip
            case "/device":
                exchange.json({
                    "device_code": "secret-device-code", "user_code": "WDJB-MJHT", "expires_in": 600, "interval": 1,
                    "verification_uri": f"{self.url}/activate",
                    "verification_uri_complete": f"{self.url}/activate?user_code=WDJB-MJHT",
                } | self.device)  # fmt: skip
            case "/token" if self.answers:
                word = self.answers.pop(0)
                if word == "away":
                    raise ConnectionResetError
                exchange.json({"error": word, "error_description": "\x1b[2Jsecret"}, 400)
            case "/token":
                self.token = self.token or unsigned_jwt({"iss": self.url, "aud": "console-api"} | self.claims)
                exchange.json({
                    "access_token": self.token, "token_type": "Bearer", "expires_in": 3600,
                    "refresh_token": "refresh-me",
                })  # fmt: skip
            case _:
                exchange.send(b"", 404)


def unsigned_jwt(claims: dict[str, Any]) -> str:
    """Return a token that nobody checks the signature of."""
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256", "typ": "at+jwt"}, claims)] + [b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
