"""Limits of requests in bytes and counts, from the settings of `serve`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.settings.definition import Settings

MB = 1_000_000

FORM_BYTES = 65_536
"""Of a form beside its files: boundaries, headers, short fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """The limits in force."""

    image_bytes: int
    video_bytes: int
    multi_files: int
    multi_bytes: int
    url_count: int
    stream_files: int
    stream_bytes: int


def request_limits_of(settings: Settings) -> RequestLimits:
    """Return the limits of the settings."""
    return RequestLimits(
        image_bytes=settings.max_image_mb * MB,
        video_bytes=settings.max_video_mb * MB,
        multi_files=settings.max_multi_files,
        multi_bytes=settings.max_multi_mb * MB,
        url_count=settings.max_url_count,
        stream_files=settings.max_stream_files,
        stream_bytes=settings.max_stream_mb * MB,
    )


def with_limits(options: DecodeOptions, limits: RequestLimits) -> DecodeOptions:
    """Return decoding options with the same limits on sizes."""
    decode = replace(options.limits, max_file_bytes=limits.image_bytes, max_video_bytes=limits.video_bytes)
    return replace(options, limits=decode)
