"""`python -m loadtest`: the harness alone."""

from loadtest.cli import main

main()
