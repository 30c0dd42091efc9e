"""ASGI layers around the application that refuse requests before an endpoint runs.

`stack` puts them in order.
"""
