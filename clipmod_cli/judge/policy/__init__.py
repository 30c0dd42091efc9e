"""Policies: frozen values, their reading from TOML, and the checks of a file. Judges nothing."""
