"""Where records go: files, streams and the store. What they say is `clipmod_cli.records`."""
