"""The command line: one thin file a command. The only room that knows Typer."""
