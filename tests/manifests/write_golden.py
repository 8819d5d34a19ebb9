"""Write the golden files anew: python -m tests.manifests.write_golden; read the difference before committing it."""

from __future__ import annotations

from tests.manifests import test_argo
from tests.manifests.test_golden import ENVIRONMENTS, GOLDEN, golden_text

if __name__ == "__main__":
    for environment in ENVIRONMENTS:
        (GOLDEN / f"{environment}.yaml").write_text(golden_text(environment))
    for name in test_argo.FILES:
        (GOLDEN / f"{name}.yaml").write_text(test_argo.golden_text(name))
