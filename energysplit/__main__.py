"""`python -m energysplit`, the command line; launchers of several processes start modules."""

from energysplit.cli import main

if __name__ == "__main__":
    main()
