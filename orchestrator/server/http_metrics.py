"""`GET /metrics`, and the middleware that counts requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from orchestrator.server.api_errors import ERRORS
from orchestrator.server.gauges import Gauges
from orchestrator.server.guards import Guards
from orchestrator.server.metrics import NONE, Metrics

if TYPE_CHECKING:
    from orchestrator.server.http import Service


def add_metrics(api: FastAPI, service: Service, guards: Guards) -> None:
    metrics = service.metrics
    metrics.read(Gauges(service, metrics))

    @api.get(
        "/metrics",
        tags=["operations"],
        dependencies=guards.metrics,
        response_class=Response,
        responses={
            200: {
                "content": {"text/plain": {"schema": {"type": "string"}}},
                "description": "Prometheus's text format; docs/monitoring.md tells what is in it.",
            },
            **ERRORS,
        },
    )
    async def get_metrics() -> Response:
        """Figures of this replica, for Prometheus."""
        return Response(metrics.expose(), media_type=CONTENT_TYPE_LATEST)


class CountRequests:
    """ASGI middleware: each request by its route and how it was answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", NONE)
            self._metrics.request(route, status, scope.get("state", {}).get("refusal"))
