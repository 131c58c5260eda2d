"""`python -m tweetboard`, and the command `tweetboard`."""

import signal
import sys


def main() -> int:
    """Run the command line.

    Before there is a loop that hears signals, Ctrl-C ends the process at once, and SIGHUP waits for one.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # a wish to read settings again, which are not read yet
    # Python's own handler raises KeyboardInterrupt anywhere: within an import's callback nobody would ever hear of it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tweetboard.cli import main as command_line  # noqa: PLC0415 - takes half a second, in which somebody may stop it

    try:
        return command_line()
    except KeyboardInterrupt:  # behind the loop, which gives the signal back to Python
        return 130


if __name__ == "__main__":
    sys.exit(main())
