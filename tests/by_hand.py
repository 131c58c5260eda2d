"""What tests work out by hand of windows, to hold the Lua that counts them against."""

from tweetboard.board.windows import Window


def first_live(window: Window, now: int) -> int:
    """Start of the first bucket that is in a window at `now`, Unix seconds both."""
    return now - now % window.bucket_s - (window.buckets - 1) * window.bucket_s
