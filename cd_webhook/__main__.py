"""``python -m cd_webhook``."""

from __future__ import annotations

import sys

from cd_webhook.main import main

if __name__ == "__main__":
    sys.exit(main())
