"""The page's own backend: the one place that knows the key. It says who may call, and with which limits."""

import os
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

ORCHESTRATOR = os.environ.get("ORCHESTRATOR_URL", "http://127.0.0.1:8080")
HEADERS = {"Authorization": f"Bearer {os.environ.get('ORCHESTRATOR_API_KEY', 'none')}"}
PAGE = Path(__file__).parent / "page"


async def start_call(request: Request) -> JSONResponse:
    """A credential for one call of whoever is signed in. The page gets this and nothing else."""
    wish = {
        "user": "a visitor",  # in earnest: the user of your session cookie, or no call
        "origin": str(request.base_url).rstrip("/"),  # from this page only
        "expires_after": {"seconds": 30},  # to begin the call, not to hold it
        "allowed_tools": [],
        "max_s": 300,
        "cap_usd": 0.50,
        "session": {"instructions": "You are a friendly voice on a web page. Keep your answers short."},
    }
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.post(f"{ORCHESTRATOR}/realtime/session", json=wish, headers=HEADERS)
    told = answer.json()
    if answer.is_error:
        print(f"no call: {told['error']['message']}")  # for you; the page is told that there is none
        return JSONResponse({"error": "no call can be made at the moment"}, 502)
    return JSONResponse({"value": told["value"], "url": told["connect"]["url"]})


app = Starlette(
    routes=[
        Route("/call", start_call, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
)
