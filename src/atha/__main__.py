"""``python -m atha``: the command line, where its script is not on the path."""

from atha.cli import main

if __name__ == "__main__":
    main()
