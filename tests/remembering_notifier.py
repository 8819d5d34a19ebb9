"""Notices that a test looks at afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_repository.notify import Notice


@dataclass
class RememberingNotifier:
    """Implements `model_repository.notify.Notifier`. failure: raised in place of taking a notice."""

    notices: list[Notice] = field(default_factory=list)
    failure: Exception | None = None

    def publish(self, notice: Notice) -> None:
        if self.failure is not None:
            raise self.failure
        self.notices.append(notice)
