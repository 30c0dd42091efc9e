"""A GIF whose canvas is transparent where nothing is drawn, as browsers show it.

Pillow fills the canvas with a colour of the palette, on which ink of the same colour would not be seen.
"""

from __future__ import annotations

from PIL import GifImagePlugin, Image

_REMOVE = 2
"""How a frame is disposed of: removed; by numbers above, what was there before comes back."""


class ClearGifFile(GifImagePlugin.GifImageFile):
    """A GIF with an RGBA canvas from its second frame on."""

    def _seek(self, frame: int, update_image: bool = True) -> None:  # noqa: FBT001, FBT002 — Pillow's signature
        if frame == 1 and update_image:
            self._clear_canvas()
        self.disposal_method = 0  # Pillow lets that of the frame before hold
        super()._seek(frame, update_image)
        if frame and update_image and self.disposal_method == _REMOVE:
            self._remove_later()

    def load_end(self) -> None:
        """Compose the frame; called by Pillow when its pixels are decoded."""
        before = getattr(self, "_prev_im", None)
        if before is not None and before.size != self.size:  # a frame that is larger than the canvas
            canvas = Image.new("RGBA", self.size).im
            canvas.paste(before, (0, 0, *before.size))
            self._prev_im = canvas
        super().load_end()

    def _clear_canvas(self) -> None:
        """Make all transparent that the first frame does not cover."""
        if self.tile:
            self.load()
        canvas = Image.new("RGBA", self.size)
        if self.dispose_extent is not None:
            canvas.paste(self.convert("RGBA").crop(self.dispose_extent), self.dispose_extent)
        self.im, self._mode = canvas.im, "RGBA"
        self.info.pop("transparency", None)
        if self.disposal_method >= _REMOVE:
            self._remove_later()

    def _remove_later(self) -> None:
        if self.dispose_extent is not None:
            left, top, right, bottom = self.dispose_extent
            self.dispose = Image.new("RGBA", (right - left, bottom - top)).im
