"""`python -m openr1.cli`: the program where it is not installed as a command."""

from openr1.cli.program import main

if __name__ == "__main__":
    main()
