"""`python -m gateway_node` is `chalkwire`."""

from gateway_node.cli import main

if __name__ == "__main__":
    main()
