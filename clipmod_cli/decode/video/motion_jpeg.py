"""Pictures of Motion JPEG that FFmpeg's decoder leaves out: those behind the first one of a packet."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from clipmod_cli.decode.stills.segments import FRAMES, read_jpeg

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    VideoPacket: TypeAlias = Packet[VideoStream]

_START = b"\xff\xd8\xff"

_MOST = 3
"""More pictures than a frame can show: it has two fields."""


def hides_pictures(packet: VideoPacket, frame: VideoFrame) -> bool:
    """Return whether a packet of Motion JPEG has more pictures than the frame that was decoded from it shows.

    FFmpeg decodes a second one only if both are the fields of a frame, which is twice as high as they are.
    """
    if packet.stream.codec_context.codec.name != "mjpeg":
        return False
    data, at, pictures, rows = bytes(packet), 0, 0, frame.height
    while pictures < _MOST and (at := data.find(_START, at)) >= 0:
        found = read_jpeg(data, at, len(data))
        if found.end is not None:
            pictures += 1
            rows = max(
                int.from_bytes(data[i + 3 : i + 5], "big") for kind, i, _ in found.found if kind in FRAMES
            )
        at = found.end or at + len(_START)
    return pictures > max(round(frame.height / max(rows, 1)), 1)
