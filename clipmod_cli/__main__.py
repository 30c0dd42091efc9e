"""`python -m clipmod_cli` is the `clipmod` command."""

from clipmod_cli.cli.main import run

if __name__ == "__main__":
    run()
