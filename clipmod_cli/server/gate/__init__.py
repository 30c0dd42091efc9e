"""ASGI layers around the application that refuse requests before an endpoint runs.

One check a file; `stack` puts them in order.
"""
