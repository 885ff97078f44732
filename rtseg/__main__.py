"""`python -m rtseg`: the same as the command `rtseg`."""

from rtseg.cli import main

if __name__ == "__main__":
    main()
