"""`python -m tusd_py`: the same as the `tusd-py` command."""

from tusd_py.cli import main

if __name__ == "__main__":
    main()
