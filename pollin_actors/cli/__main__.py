"""``python -m pollin_actors.cli`` is the ``pollin`` command."""

import sys

from pollin_actors.cli import main

if __name__ == "__main__":
    sys.exit(main())
