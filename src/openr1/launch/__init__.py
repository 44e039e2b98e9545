"""Running stages: the plan, the engine that executes it, status, logs and doctor."""
