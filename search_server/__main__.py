"""``python -m search_server``."""

from __future__ import annotations

import os
import sys

from search_server.main import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
