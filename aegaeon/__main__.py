"""`python -m aegaeon`: the same as the `aegaeon` command."""

import sys

from aegaeon.cli import main

if __name__ == "__main__":
    sys.exit(main())
