"""Grading programs: the last fenced block runs in the sandbox, its output is compared here, outside of it.

Expected outputs never enter the sandbox (law 2). The one exception are asserts that cannot be turned into calls; their
verdict says `decided_by: assert_in_sandbox`. docs/code.md has the rows that are read and what counts as right.
"""
