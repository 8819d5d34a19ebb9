"""``python -m init_container``."""

from __future__ import annotations

import os

from init_container.main import main

if __name__ == "__main__":
    os._exit(main(os.environ))  # all is said by now, and taking the interpreter apart would cost 10 ms
