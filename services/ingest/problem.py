"""problem: what is wrong with a submission, in words that its sender can act on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Name the field and the rule that it breaks; ``rule`` never quotes more of the input than is needed to find it."""

    field: str
    rule: str
    #: Too large rather than wrong: mail.rejected tells the two apart.
    too_large: bool = False

    def __str__(self) -> str:
        """Read as one sentence."""
        return f"{self.field}: {self.rule}"
