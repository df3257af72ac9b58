"""`python -m armorm` is `armorm`."""

from armorm.flows.cli.program import main

if __name__ == "__main__":
    main()
