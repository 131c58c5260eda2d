"""`python -m tweetboard`."""

import sys

from tweetboard.cli import main

if __name__ == "__main__":
    sys.exit(main())
