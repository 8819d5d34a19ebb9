"""``python -m init_container``: pulls what the environment says; the exit code says how it went."""

from __future__ import annotations

import os
import sys

from init_container.pull import main

sys.exit(main(os.environ))
