"""Refusals as answers: a page for people, a problem document (RFC 9457) for programs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rankgate.console import pages
from rankgate.console.refusals import Refusal
from rankgate.console.site import API

__all__ = ["sign_in", "told"]


def told(request: Request, refusal: Refusal, vote_fresh_s: int) -> Response:
    """Return the answer to a request that is refused."""
    if request.url.path.startswith(API):
        headers = {}
        if refusal is Refusal.LOGIN_REQUIRED:
            headers["www-authenticate"] = 'Bearer error="invalid_token"'
        elif refusal is Refusal.LOGIN_STALE:
            # RFC 9470: log in again, and come back with a token of that login.
            headers["www-authenticate"] = f'Bearer error="insufficient_user_authentication", max_age="{vote_fresh_s}"'
        problem = {
            "type": "about:blank", "title": refusal.text, "status": refusal.status, "code": refusal.value,
        }  # fmt: skip
        return JSONResponse(problem, refusal.status, headers, "application/problem+json")
    return pages.error_page(request, refusal.status, _TITLES.get(refusal.status, "Refused"), refusal.text)


def sign_in(request: Request) -> Response:
    """Return what somebody gets who is not logged in."""
    # What was sent is lost; the page to go back to is the one it was sent from at best.
    back = request.url.path if request.method == "GET" else "/"
    if request.method == "GET" and request.url.query:
        back += f"?{request.url.query}"
    return pages.sign_in_page(request, back, 401)


_TITLES = {
    400: "That did not work", 401: "Sign in first", 403: "Not allowed", 404: "Not found", 405: "Not allowed",
    408: "Too slow", 409: "It changed meanwhile", 413: "Too large", 415: "Not accepted",
    421: "Wrong address", 422: "Not accepted", 429: "Too often", 500: "The console failed", 503: "Not available",
}  # fmt: skip
