"""`python -m relaxbench`, and `relaxbench`."""

import sys

from relaxbench.errors import missing_library


def main() -> int:
    """Run a command; say in one line what to install if it needs a library that is not there."""
    try:
        from relaxbench.cli.main import main as run

        return run()
    except ModuleNotFoundError as error:
        message = missing_library(error)
        if message is None:
            raise
        print(f"relaxbench: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
