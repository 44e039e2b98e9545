"""Where prompts come from: splits of arithmetic, countdown, functions, reasoning-gym, local files and Hub datasets."""

from openr1.tasks.base import Dropped, Question, normalise, text_key
from openr1.tasks.build import BuiltSplits, build_splits

__all__ = ["BuiltSplits", "Dropped", "Question", "build_splits", "normalise", "text_key"]
