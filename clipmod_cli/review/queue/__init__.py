"""The queue of `clipmod review`: what was judged, in which order it is shown, and what was decided."""
