"""`python -m ablator` is the same as `ablator`."""

from ablator.cli import main

if __name__ == "__main__":
    main()
