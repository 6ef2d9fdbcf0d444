"""`python -m relaxbench`, and `relaxbench`."""

import atexit
import gc
import sys
import warnings

from relaxbench.errors import missing_library


def main() -> int:
    """Run a command; say in one line what to install if it needs a library that is not there."""
    silence_torch()
    # The process ends, and its memory is freed as a whole: a second passes if Python looks for garbage first.
    atexit.register(gc.freeze)
    try:
        from relaxbench.cli.main import main as run

        return run()
    except ModuleNotFoundError as error:
        message = missing_library(error)
        if message is None:
            raise
        print(f"relaxbench: {message}", file=sys.stderr)
        return 2


def silence_torch() -> None:
    """Keep PyTorch's warnings on its own code out of the terminal, unless -W or PYTHONWARNINGS asks for some."""
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        # A warning of its C++ code is attributed to whatever line of Python called it.
        warnings.filterwarnings("ignore", message=r"(?s).*\(Triggered internally at ")


if __name__ == "__main__":
    sys.exit(main())
