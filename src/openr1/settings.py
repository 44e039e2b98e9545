"""The base of every settings type: unknown keys are refused, values are not coerced from strings.

`NOT_IDENTITY` names the fields that do not change what a stage produces (logging, placement); `GROWTH` those that only
add rows. Both stay out of a stage's key.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen, strict group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset()
    GROWTH: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """The fields that decide what is produced, as plain JSON values, nested settings included."""
        return {
            name: _identity(getattr(self, name))
            for name in type(self).model_fields
            if name not in self.NOT_IDENTITY and name not in self.GROWTH
        }

    def growth(self) -> dict[str, Any]:
        """The fields that only add rows, as plain JSON values; those that are None are left out."""
        values = {name: getattr(self, name) for name in sorted(self.GROWTH)}
        return {name: _identity(value) for name, value in values.items() if value is not None}


def _identity(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.identity()
    if isinstance(value, dict):
        return {str(k): _identity(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_identity(v) for v in value]
    return value
