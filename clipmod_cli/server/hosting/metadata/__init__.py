"""Removes metadata from pictures without touching a pixel: parts of the container are left out, none decoded.

Kept are orientation, colour profile, transparency and animation. Removed are EXIF, GPS, XMP, IPTC, comments,
texts, thumbnails, makers' notes, further pictures, and what follows the end. A damaged file is refused, since
what it holds cannot be told. Not looked for: bytes hidden within coded pixels or within a colour profile.
"""
