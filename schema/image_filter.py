"""Image filter: which images are meant, by what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

from nearshot.schema.vocabulary import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFilter:
    """Filter of images: of a category, a label, a role; None for all."""

    category: str | None = None
    label: str | None = None
    role: Role | None = None

    def clauses(self) -> list[str]:
        """SQL conditions on the table `images`, with parameters named like the fields."""
        return [f"images.{name} = :{name}" for name in self.parameters()]

    def parameters(self) -> dict[str, str]:
        """The fields that are set."""
        wanted = {"category": self.category, "label": self.label, "role": self.role}
        return {name: str(value) for name, value in wanted.items() if value is not None}
