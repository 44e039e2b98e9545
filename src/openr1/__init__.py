"""openr1: an open reproduction of DeepSeek-R1, from prompts to a report.

Importing this package is cheap: no torch, none of the heavy libraries; each room imports what it needs.
"""

__version__ = "0.1.0"
