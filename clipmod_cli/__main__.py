"""The `clipmod` command, also as `python -m clipmod_cli`."""

from clipmod_cli.cli.terminal.interrupt import exit_on_interrupt


def run() -> None:
    """Run the command line and exit."""
    exit_on_interrupt()
    from clipmod_cli.cli.main import run as run_command_line

    run_command_line()


if __name__ == "__main__":
    run()
