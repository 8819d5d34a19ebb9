"""``python -m notify --check``: says what is misconfigured, and ends with 64 if anything is."""

import sys

from notify.main import main

sys.exit(main())
