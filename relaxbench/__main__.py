"""`python -m relaxbench`, and `relaxbench`."""

import atexit
import gc
import sys
import warnings

from relaxbench.errors import missing_library


def leave() -> None:
    """Let the process end without looking for garbage, which takes a second once PyTorch was imported.

    Its memory is freed as a whole. Only Triton, where it was loaded, would call objects that nobody collects leaked.
    """
    if "triton" not in sys.modules:
        gc.freeze()


def main() -> int:
    """Run a command; say in one line what to install if it needs a library that is not there."""
    silence_torch()
    atexit.register(leave)
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
