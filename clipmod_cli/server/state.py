"""What a request finds ready: the service, and threads to call it in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypedDict, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from clipmod_cli.server.apis.classes.words import ClassVectors
from clipmod_cli.server.apis.classifier.models import Classifiers
from clipmod_cli.server.kept.storage import ServiceStorage
from clipmod_cli.server.service import Service
from clipmod_cli.settings import Settings

T = TypeVar("T")


class State(TypedDict):
    """What the lifespan gives to every request."""

    service: Service
    settings: Settings
    threads: CapacityLimiter
    classifiers: Classifiers
    words: ClassVectors
    kept: ServiceStorage


# Each of these is a coroutine because FastAPI calls any other function in a thread of a pool, which costs
# more than the rest of a small request.


async def _service(request: Request) -> Service:
    found: Service = request.state.service
    return found


async def _settings(request: Request) -> Settings:
    found: Settings = request.state.settings
    return found


async def _classifiers(request: Request) -> Classifiers:
    found: Classifiers = request.state.classifiers
    return found


async def _words(request: Request) -> ClassVectors:
    found: ClassVectors = request.state.words
    return found


async def _admitted(request: Request) -> AsyncIterator[int]:
    """Count the request; raises BusyError where the service is full."""
    service: Service = request.state.service
    with service.load.one() as count:
        yield count


Served = Annotated[Service, Depends(_service)]
Configured = Annotated[Settings, Depends(_settings)]
Classifying = Annotated[Classifiers, Depends(_classifiers)]
Worded = Annotated[ClassVectors, Depends(_words)]
Admitted = Annotated[int, Depends(_admitted)]
"""How many requests are under way, this one included."""


async def in_thread(request: Request, work: Callable[[], T]) -> T:
    """Return what blocking code returns, without holding up others."""
    limiter: CapacityLimiter = request.state.threads
    return await to_thread.run_sync(work, limiter=limiter)
