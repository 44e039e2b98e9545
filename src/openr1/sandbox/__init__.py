"""Running programs that nobody trusts: isolated, limited, and without anything of the host in sight.

What is covered and what is not: docs/sandbox.md. Expected outputs never come here; they are compared outside.
"""

from openr1.sandbox.languages import LANGUAGES, Language, register_language
from openr1.sandbox.outcome import Case, Outcome, Status
from openr1.sandbox.sandbox import Sandbox
from openr1.sandbox.settings import Limits, Tier

__all__ = ["LANGUAGES", "Case", "Language", "Limits", "Outcome", "Sandbox", "Status", "Tier", "register_language"]
