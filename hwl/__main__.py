"""`python -m hwl` is the command line."""

from hwl.cli import main

if __name__ == "__main__":
    main()
