"""`clipmod review`: a person decides on what was judged."""
