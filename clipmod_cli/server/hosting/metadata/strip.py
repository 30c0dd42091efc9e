"""From a picture file to the same picture without its metadata, for every format that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from clipmod_cli.server.hosting.metadata.bitmap import strip_bmp
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError
from clipmod_cli.server.hosting.metadata.gif import strip_gif
from clipmod_cli.server.hosting.metadata.iso import strip_iso
from clipmod_cli.server.hosting.metadata.jpeg import strip_jpeg
from clipmod_cli.server.hosting.metadata.png import strip_png
from clipmod_cli.server.hosting.metadata.tiff import strip_tiff
from clipmod_cli.server.hosting.metadata.webp import strip_webp

STRIPPERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "JPEG": strip_jpeg,
    "PNG": strip_png,
    "WEBP": strip_webp,
    "GIF": strip_gif,
    "BMP": strip_bmp,
    "AVIF": strip_iso,
    "HEIF": strip_iso,
    "TIFF": strip_tiff,
}
"""By the name of a format in records."""


def strip_metadata(data: bytes, format_name: str) -> bytes:
    """Return a file with the same pixels as viewers show them, and without metadata.

    Raises:
        UnstrippableError: the format is not known, or the file is damaged; never another exception.
    """
    strip = STRIPPERS.get(format_name)
    if strip is None:
        raise UnstrippableError(f"metadata of {format_name} cannot be removed")
    try:
        return strip(data)
    except (IndexError, ValueError, OverflowError) as e:  # of hostile numbers
        raise UnstrippableError(f"metadata of this {format_name} cannot be removed: {e}") from e
