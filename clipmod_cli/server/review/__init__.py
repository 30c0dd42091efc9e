"""The page of `clipmod review`, on this machine only."""
