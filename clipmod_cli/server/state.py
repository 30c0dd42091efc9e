"""What an endpoint asks for as parameters: the service, its settings, a place in the load."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from clipmod_cli.server.request_info import RequestInfo, request_info_of
from clipmod_cli.server.service import Service
from clipmod_cli.server.storage import ServiceStorage
from clipmod_cli.settings.definition import Settings

T = TypeVar("T")


def from_state(name: str) -> Callable[[Request], Coroutine[Any, Any, Any]]:
    """Return a dependency that gives an attribute of `request.state`."""

    # a coroutine: FastAPI calls other functions in a thread, which costs more than a small request
    async def find(request: Request) -> Any:
        return getattr(request.state, name)

    return find


async def _info(request: Request) -> RequestInfo:
    return request_info_of(request.scope)


async def _admitted(request: Request) -> AsyncIterator[int]:
    """Hold a place while the endpoint runs; raises BusyError if there is none for too long."""
    service: Service = request.state.service
    async with service.load.turn() as count:
        yield count


Served = Annotated[Service, Depends(from_state("service"))]
Configured = Annotated[Settings, Depends(from_state("settings"))]
Stored = Annotated[ServiceStorage, Depends(from_state("storage"))]
Info = Annotated[RequestInfo, Depends(_info)]
"""Where an endpoint notes how many pictures it judged, with which models, and what failed."""

# scope: the place is free again before the answer is sent, however slowly that is read
Admitted = Annotated[int, Depends(_admitted, scope="function")]
"""How many requests are being judged, this one included. The place is taken once the body is complete."""


Threads = Literal["threads", "download_threads"]
"""Those that judge, and those that wait for other servers: neither kind waits for the other."""


async def in_thread(request: Request, work: Callable[[], T], threads: Threads = "threads") -> T:
    """Return the result of blocking code, run in a thread of this kind."""
    limiter: CapacityLimiter = getattr(request.state, threads)
    return await to_thread.run_sync(work, limiter=limiter)
