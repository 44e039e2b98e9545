"""Verdicts and texts to one composed reward. Functions are found by name or `module:function`; see docs/grading.md."""

from openr1.rewards.check import problems
from openr1.rewards.compose import ComposedReward, diagnose
from openr1.rewards.registry import get_reward, reward_names
from openr1.rewards.settings import PartSettings, RewardSettings
from openr1.rewards.types import RewardBatch, RewardResult

__all__ = [
    "ComposedReward",
    "PartSettings",
    "RewardBatch",
    "RewardResult",
    "RewardSettings",
    "diagnose",
    "get_reward",
    "problems",
    "reward_names",
]
