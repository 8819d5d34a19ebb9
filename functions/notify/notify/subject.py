"""What a message is about."""

from __future__ import annotations

from dataclasses import dataclass

from model_repository.names import Target, environment_incidents_name


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """An index in an environment; index: empty where the whole environment is concerned."""

    environment: str
    index: str = ""

    @property
    def target(self) -> Target | None:
        """The index, if it is one. Raises `NameRefused`."""
        return Target(self.environment, self.index) if self.index else None

    @property
    def incidents_name(self) -> str:
        """The name of the record of its open faults."""
        return self.target.incidents_name if self.target else environment_incidents_name(self.environment)

    def state_name(self, sink: str) -> str:
        """The name of the record of what was told of it to a sink."""
        return f"notices/{sink}/{self.environment}/{self.index}.json".replace("/.json", ".json")
