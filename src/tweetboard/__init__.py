"""Point it at a stream of posts; get live, exactly counted leaderboards."""

__version__ = "0.1.0"
