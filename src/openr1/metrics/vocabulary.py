"""The names of metrics and what they mean: the same in metrics.jsonl, in reports and on W&B."""

from __future__ import annotations

# name -> what it is; a trailing * matches one reward part's name
VOCABULARY: dict[str, str] = {
    "step": "optimizer step, from 1",
    "epoch": "passes over the training data",
    "loss": "training loss",
    "learning_rate": "learning rate at this step",
    "grad_norm": "gradient norm before clipping",
    "entropy": "mean token entropy of the policy (nats)",
    "clip_ratio": "share of tokens whose probability ratio was clipped",
    "kl": "mean KL to the reference model",
    "logprob_gap": "mean distance of the trainer's and vLLM's log-probabilities of a token (nats)",
    "logprob_tail": "largest distance of the trainer's and vLLM's log-probabilities of a token (nats)",
    "ratio_min": "smallest importance ratio of trainer to vLLM, as it is used",
    "ratio_max": "largest importance ratio of trainer to vLLM, as it is used",
    "reward": "mean composed reward of the batch",
    "reward_std": "mean standard deviation of the reward within a group",
    "reward_spread": "standard deviation of the reward over the whole batch",
    "reward/*": "mean of one part of the reward over the rows where it is defined",
    "pass_rate": "mean pass rate, measured by curate, of the prompts of this step (with a curriculum)",
    "masked": "share of rows whose reward is masked (a failure of ours)",
    "zero_variance_groups": "share of groups whose rewards are all equal",
    "completion_tokens": "mean length of a completion (tokens)",
    "truncated": "share of completions cut at the token limit",
    "reflection": "share of completions that hold a word of reflection (reflection_words)",
    "accuracy": "greedy accuracy on the development set",
    "tokens": "tokens seen so far, generated ones included",
    "completions": "completions that are there (the step of a generate stage)",
    "missing": "completions still to come",
    "failed": "completions of this attempt that failed for good",
    "generated_tokens": "tokens generated in this attempt",
    "tokens_per_second": "generated tokens of this attempt over its seconds",
    "eta_seconds": "seconds left at this pace",
    "seconds/generate": "seconds of this step spent generating",
    "seconds/grade": "seconds of this step spent grading",
    "seconds/wait": "seconds of this step in which a rank waited for the others to generate and to grade",
    "seconds/sync": "seconds of this step in which the weights went to vLLM",
    "seconds/train": "seconds of this step spent on everything else",
    "seconds/step": "seconds of this step",
    "speed/trained_tokens_per_second": "tokens of this step that were trained on, over its seconds",
    "speed/rollout_tokens_per_second": "tokens that this step generated, over the seconds of generation",
    "speed/idle_share": "share of the step in which the trainer's processors had nothing to compute",
    "speed/mfu": "model FLOPs of this step over what the GPUs could have done in its seconds (GPUs only)",
}


def of_the_machine(name: str) -> bool:
    """Whether a metric depends on how fast the machine is, so that no two runs agree on it."""
    return name == "time" or name.startswith(("seconds/", "speed/"))


def known_metric(name: str) -> bool:
    """Whether `name` is in the vocabulary."""
    return name in VOCABULARY or f"{name.split('/')[0]}/*" in VOCABULARY
