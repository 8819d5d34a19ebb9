from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "manifests" / "environments"
"""The values that are shipped."""
