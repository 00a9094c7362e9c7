"""`python -m tileup`, and the `tileup` command."""

import sys

from tileup.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
