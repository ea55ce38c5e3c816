"""`/healthz`, `/readyz` and `/metrics`: what orchestrators and Prometheus ask a worker."""

from typing import Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wallet_worker.telemetry.connections import BoundedConnection
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.server import Server


class Watched(Protocol):
    """Metrics of a process, one of which says whether it is ready."""

    ready: Gauge

    @property
    def exposed(self) -> CollectorRegistry:
        """What `/metrics` shows, with the role of the process on each sample."""


def server(host: str, port: int, health: Health, metrics: Watched) -> Server:
    """Return a server that is not started yet."""

    def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    def readyz(_: Request) -> Response:
        status = 200 if health.is_ready else 503
        # Names of parts only: why one is not ready has hosts in it, and stands in the log.
        return JSONResponse({"ready": health.is_ready, "waiting_for": sorted(health.reasons)}, status)

    def show_metrics(_: Request) -> Response:
        metrics.ready.set(int(health.is_ready))
        return Response(generate_latest(metrics.exposed), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)]
    )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedConnection,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )
    return Server(config)
