"""The statistics of all runs in DuckDB: written behind a spool, merged, queried and erased."""
