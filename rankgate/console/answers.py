"""Refusals as answers: a page for people, a problem document (RFC 9457) for programs."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rankgate.console.refusals import Refusal
from rankgate.console.site import API

__all__ = ["logged_out", "pages_module", "sign_in", "told"]


def pages_module() -> ModuleType | None:
    """Return the module of pages, None where this console serves the API alone."""
    if find_spec("rankgate.console.pages") is None:
        return None
    from rankgate.console import pages

    return pages


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
    pages = pages_module()
    if pages is None:
        return PlainTextResponse(refusal.text, refusal.status)
    answer: Response = pages.error_page(request, refusal.status, _TITLES.get(refusal.status, "Refused"), refusal.text)
    return answer


def sign_in(request: Request) -> Response:
    """Return what somebody gets who is not logged in."""
    pages = pages_module()
    if pages is None:
        return PlainTextResponse(Refusal.LOGIN_REQUIRED.text, 401)
    # What was sent is lost; the page to go back to is the one it was sent from at best.
    back = request.url.path if request.method == "GET" else "/"
    if request.method == "GET" and request.url.query:
        back += f"?{request.url.query}"
    answer: Response = pages.sign_in_page(request, back, 401)
    return answer


def logged_out(request: Request) -> Response:
    """Return what somebody gets who logged out."""
    pages = pages_module()
    if pages is None:
        return PlainTextResponse("You are signed out.")
    answer: Response = pages.signed_out_page(request)
    return answer


_TITLES = {
    400: "That did not work", 401: "Sign in first", 403: "Not allowed", 404: "Not found", 405: "Not allowed",
    408: "Too slow", 409: "It changed meanwhile", 413: "Too large", 415: "Not accepted",
    421: "Wrong address", 422: "Not accepted", 429: "Too often", 500: "The console failed", 503: "Not available",
}  # fmt: skip
