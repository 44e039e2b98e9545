"""From verdicts to training sets: steps that keep a row or drop it with a reason."""
