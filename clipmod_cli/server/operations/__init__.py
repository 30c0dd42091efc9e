"""What an operator sees: probes, metrics, the access log, and the description of the API."""
