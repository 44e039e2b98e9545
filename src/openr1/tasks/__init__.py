"""Where prompts come from: splits of arithmetic, countdown, reasoning-gym tasks, local files and Hub datasets."""
