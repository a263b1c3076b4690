"""`/dashboard`: the page for operators and its files. They are open to all and hold no data.

What the page shows it asks the API for, with the key that its user gives it. It loads nothing from anywhere else, and
the headers here hold a browser to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from fastapi import FastAPI, Request, Response

from orchestrator.server.api_errors import ApiError
from orchestrator.server.http_files import tag_of

PAGE = "index.html"
KINDS: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        # Recordings are fetched with the key, and played from memory.
        "media-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""No script but the page's own files, no text that becomes markup, nothing that leaves for another host."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for anew after an update, and not sent again where nothing has changed.
    "Cache-Control": "no-cache",
}


def add_dashboard(api: FastAPI) -> None:
    found = _files()

    @api.get("/dashboard", include_in_schema=False)
    async def dashboard(request: Request) -> Response:
        return _answer(request, PAGE, found[PAGE])

    @api.get("/dashboard/{name}", include_in_schema=False)
    async def dashboard_file(name: str, request: Request) -> Response:
        if name not in found or name == PAGE:
            there = ", ".join(sorted(found.keys() - {PAGE}))
            message = (
                f"the dashboard has no file {name[:80]!r}; it is at /dashboard, and its files are {there}"
            )
            raise ApiError(404, "not_found", message, "name")
        return _answer(request, name, found[name])


def _files() -> dict[str, bytes]:
    """They are small, and read once: a page of one version never gets scripts of another."""
    folder = files("orchestrator.server") / "dashboard"
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if any(file.name.endswith(ending) for ending in KINDS)
    }


def _answer(request: Request, name: str, body: bytes) -> Response:
    headers = {**HEADERS, "ETag": tag_of(body)}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=KINDS[name[name.rindex(".") :]])
