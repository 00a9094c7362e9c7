"""`python -m tileup`, and the `tileup` command."""

import os
import sys

from tileup.errors import ExitCode


def main() -> int:
    """Run the command line; an interrupted one ends here and now."""
    try:
        # Imported here because it takes long enough to be interrupted.
        from tileup.cli import main as cli

        code = cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("tileup: interrupted\n")
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:
        # Python 3.11 reports an interruption inside an `exec`, as imports have many, as death by
        # signal even when it was handled.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
