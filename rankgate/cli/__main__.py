"""`python -m rankgate.cli`: the `rankgate` command without its script."""

from rankgate.cli import main

if __name__ == "__main__":
    main()
