"""`python -m relaxbench`."""

import sys

from relaxbench.cli.main import main

sys.exit(main())
