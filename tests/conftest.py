"""What holds for all tests: threads that sleep while they wait (see :func:`kinemix.cli.main`), set before torch."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
