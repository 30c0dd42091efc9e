"""HTTP as RFC 9110 and 9112 ask of a server: strict parsing, timeouts and limits of connections, methods."""
