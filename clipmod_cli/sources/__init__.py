"""Where inputs come from: each source is a lazy generator of `Item`s. Nothing is decoded here."""
