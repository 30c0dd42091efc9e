"""What is refused since a person cannot have seen it."""

from __future__ import annotations

from clipmod_cli.errors import UsageError


class NotShownError(UsageError):
    """What was decided on is not what is shown: a second window, or a key that was pressed twice."""

    http_status = 409

    def __init__(self) -> None:
        """Say so."""
        super().__init__("this is not what is shown now")


class NearCopyNotSeenError(UsageError):
    """A near copy that the machine judged otherwise was not looked at before all were called safe."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the machine judged a near copy otherwise: look at it before they are called safe")
