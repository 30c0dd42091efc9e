"""The HTTP interfaces (dialects) of the service, one room each; `dialects.DIALECTS` is their table."""
