"""Slurm: the jobs of a recipe, their scripts, submitting them, and what became of them."""
