"""Has every host be the port of loopback that PRINTED_PORT names, before a printed Python snippet runs.

Python imports this by its name where the folder is on PYTHONPATH; the snippet itself stays as printed.
"""

from __future__ import annotations

import os
import socket
from typing import Any

_PORT = int(os.environ.get("PRINTED_PORT", "0"))
_resolve = socket.getaddrinfo


def _to_loopback(_host: object, _port: object, *args: Any, **kwargs: Any) -> Any:
    return _resolve("127.0.0.1", _PORT, *args, **kwargs)


if _PORT:
    setattr(socket, "getaddrinfo", _to_loopback)  # noqa: B010 - its type is the real one's
