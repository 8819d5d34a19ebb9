"""Which images there are, and what each is made from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image. dockerfile, lock: below the repository's root. arguments: of the build, beside BASE and REVISION."""

    name: str
    title: str
    dockerfile: str
    lock: str
    arguments: dict[str, str] = field(default_factory=dict)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("search", "indexpush search server", "base_image/Dockerfile", "base_image/requirements.txt"),
        Recipe("cd-webhook", "indexpush CD webhook", "cd_webhook/Dockerfile", "requirements/cd_webhook.txt"),
        Recipe("batch", "indexpush batch", "embedding_batch/Dockerfile", "requirements/embedding_batch.txt"),
        Recipe(
            "batch-cuda",
            "indexpush batch for CUDA devices",
            "embedding_batch/Dockerfile",
            "requirements/embedding_batch_cuda.txt",
            {"LOCK": "requirements/embedding_batch_cuda.txt"},
        ),
        Recipe("operator", "indexpush operator's command", "operator_cli/Dockerfile", "requirements/operator_cli.txt"),
    )
}
"""By name; what is pushed is <registry's path>/<name>."""
