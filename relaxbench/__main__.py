"""`python -m relaxbench`."""

import sys

from relaxbench.cli import main

sys.exit(main())
