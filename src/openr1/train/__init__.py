"""SFT and GRPO on TRL's trainers: one composed reward, exact resume, metrics and rollouts of every step."""
