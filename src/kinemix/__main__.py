"""``python -m kinemix`` is ``kinemix``."""

import sys

from kinemix.cli import main

if __name__ == "__main__":
    sys.exit(main())
