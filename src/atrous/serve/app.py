"""The ASGI application: routes, errors in one form, and the page's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from atrous import __version__
from atrous.serve import open_inference, segment
from atrous.serve.documents import refusals
from atrous.serve.guard import Guard
from atrous.serve.refusal import ClientGone, Refusal
from atrous.serve.service import Service

PAGE = Path(__file__).parent / "page"
"""The web page's files; `index.html` is served at `/`."""

_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"


def make_app(service: Service, page: Path = PAGE) -> Guard:
    """Put the application together.

    Args:
        service: the models.
        page: folder of the web page; without one there is none.
    """
    # Their pages would fetch scripts from elsewhere.
    app = FastAPI(
        title="Atrous",
        version=__version__,
        description="Semantic segmentation: a picture in, a class for every pixel out.",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(open_inference.router(service))
    app.include_router(segment.router(service))

    @app.get("/metrics", response_class=PlainTextResponse, responses=refusals(401))
    def metrics() -> Response:
        """What the server counts, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    paths = _add_page(app, page)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, error: Refusal) -> Response:
        return JSONResponse({"error": str(error)}, error.status, headers=error.headers)

    @app.exception_handler(ClientGone)
    async def nobody_there(request: Request, error: ClientGone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}; see /openapi.json"
        return JSONResponse({"error": message}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        trace = request.scope["atrous.trace"]
        said = f"internal error, request {trace.request_id} in the server's log"
        return JSONResponse({"error": said}, 500)

    return Guard(app, service.metrics, service.settings, paths)


def _add_page(app: FastAPI, page: Path) -> list[str]:
    """A route for every file of the page; returns their paths.

    Files are listed once: what is not there at the start is never served.
    """
    paths = []
    files = sorted(file for file in page.rglob("*") if file.is_file()) if page.is_dir() else []
    for file in files:
        name = file.relative_to(page).as_posix()
        paths.append("/" if name == "index.html" else f"/{name}")
        app.add_route(paths[-1], _sender(file), methods=["GET"], include_in_schema=False)
    return paths


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        fields = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return FileResponse(file, headers=fields)

    return send
