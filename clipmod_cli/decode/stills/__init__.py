"""One still picture: bytes to RGB pixels."""
