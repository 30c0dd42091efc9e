"""What else a file holds beside its own picture or film: further pictures, films, archives, unknown bytes."""
