"""An animated PNG whose frames are drawn and removed as browsers do it."""

from __future__ import annotations

from PIL import PngImagePlugin

_BILEVEL_AND_GREY = frozenset({"1", "L"})


class ExactApngFile(PngImagePlugin.PngImageFile):
    """A PNG that corrects how Pillow blends its later frames.

    - A frame that is blended and then removed leaves what was there before it; Pillow draws it on its own
      copy of that, and so removes nothing.
    - The transparent level of a grey frame is not drawn.
    """

    def load_end(self) -> None:
        """Compose the frame; called by Pillow when its pixels are decoded."""
        before = getattr(self, "_prev_im", None)
        if before is None:
            super().load_end()
            return
        before, frame = before.copy(), self.im.copy()
        super().load_end()
        self._prev_im = before
        clear = self.info.get("transparency")
        if (
            self.blend_op == PngImagePlugin.Blend.OP_OVER
            and self.mode in _BILEVEL_AND_GREY
            and clear is not None
        ):
            part = self._crop(frame, self.dispose_extent)
            self.im = before.copy()
            self.im.paste(part, self.dispose_extent, part.convert_transparent("LA", clear))
