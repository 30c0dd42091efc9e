"""Where records go: files, streams and the statistics database. Their content is `clipmod_cli.records`."""
