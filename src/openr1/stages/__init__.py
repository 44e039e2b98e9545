"""The kinds of stages: each reads its inputs, calls a room below, and writes its outputs."""
