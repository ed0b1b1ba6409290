"""A config in the making, and the plan it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelwise.config import Config, to_yaml
from pixelwise.planning.candidates import Candidate
from pixelwise.planning.estimate import Forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    config: Config
    reasons: Mapping[str, str]
    """`section.key` → why."""
    forecast: Forecast | None = None
    """None where a config was given and nothing planned."""

    def to_yaml(self) -> str:
        """The config, its reasons and the forecast as comments."""
        return to_yaml(self.config, self.reasons, self.forecast.lines() if self.forecast else ())


class Draft:
    """What the user decided stays, everything else gets a value and a reason."""

    def __init__(self, decided: Mapping[str, Any]) -> None:
        self.decided = set(decided)
        self.config = Config().replace(decided)
        self.reasons = dict.fromkeys(decided, "as asked for")

    def put(self, key: str, value: Any, reason: str) -> None:
        if key not in self.decided:
            self.config = self.config.replace({key: value})
            self.reasons[key] = reason

    def explain(self, key: str, reason: str) -> None:
        """More words for a value that stays as it is."""
        before = self.reasons.get(key)
        self.reasons[key] = f"{before}; {reason}" if before else reason

    def with_network(self, candidate: Candidate) -> Config:
        """The config with this network, where the user left the choice."""
        return self.config.replace({k: v for k, v in candidate.keys.items() if k not in self.decided})

    def put_network(self, candidate: Candidate, reason: str) -> None:
        for key, value in candidate.keys.items():
            self.put(key, value, reason)
