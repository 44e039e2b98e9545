"""Prompts to completions, behind one interface; today through transformers."""
