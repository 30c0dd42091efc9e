"""Who may ask: layers around the application that turn requests away before an endpoint sees them.

Each file is one question, as pure ASGI: they pass streams through untouched. `stack` puts them in order.
"""
