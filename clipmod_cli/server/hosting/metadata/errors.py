"""The error of a file whose metadata cannot be removed."""


class UnstrippableError(ValueError):
    """A file whose metadata cannot be removed: of a format that is not known here, or damaged."""
