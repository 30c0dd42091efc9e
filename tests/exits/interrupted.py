"""The command with the toys among its models, for processes that are killed."""

from __future__ import annotations

from clipmod_cli.__main__ import run
from clipmod_cli.models import registry
from tests.exits.toys import BACKENDS

if __name__ == "__main__":
    registry.BACKENDS.update(BACKENDS)
    run()
