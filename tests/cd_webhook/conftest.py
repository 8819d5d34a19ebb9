from __future__ import annotations

import sys
from pathlib import Path

# the fakes and the contract of this folder, as plain modules
sys.path.insert(0, str(Path(__file__).parent))
