"""What runs inside the sandbox, as its first process: standard library only, sent there as text."""
