"""`python -m quadtok`."""

from quadtok.cli import main

if __name__ == "__main__":
    main()
