"""The classes API: a picture over the caller's own words."""
