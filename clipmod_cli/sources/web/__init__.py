"""URLs as sources: which addresses may be asked, connections, downloads, retries and limits."""
