"""`python -m smtpguard`: the same as the console script."""

from smtpguard.cli import main

if __name__ == "__main__":
    main()
