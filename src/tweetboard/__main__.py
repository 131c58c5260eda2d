"""`python -m tweetboard`."""

import sys

if __name__ == "__main__":
    try:
        from tweetboard.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # before there is a loop that hears it
        sys.exit(130)
