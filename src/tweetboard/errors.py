"""Everything that tweetboard raises on purpose: one tree, in which the type says whose fault it is.

What belongs here: the types, what each carries, and the exit code a person sees. What must not: messages (they are
written where the value that was wrong is known) and handling.

    TweetboardError
        ConfigurationError      the user's: a setting, a flag, a file; exit code 2
        StreamError             the upstream's
            StreamRefused       final: a token that is not accepted, an address that does not exist
            StreamLost          passing: cut, silent, busy; connect again after a delay
        StoreError              the Redis server's
            StoreUnavailable    passing: not there, loading, no answer; wait for it
            StoreRefused        final: a key of the wrong type, a command that is not permitted
        SessionEnded            nobody's: somebody else goes on with this stream, or this one starts anew
        EmbeddedServerError     the private server's: it could not be started or kept alive
        BoardsUnavailable       the running daemon's, or whoever's there: it serves no such boards
        NotDrained              the stop was too short for all that had been read
"""


class TweetboardError(Exception):
    """Anything that tweetboard raises on purpose; `str()` is one line that a person can act on."""

    exit_code = 1


class ConfigurationError(TweetboardError):
    """One or more settings are wrong; `problems` has a line for each, none left out."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StreamError(TweetboardError):
    """The upstream failed; its own words may be in the message, which has no control characters of theirs."""

    def __init__(self, message: str) -> None:
        # Otherwise an upstream could write lines of its own into the log, or to the terminal.
        super().__init__(
            "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in message)
        )


class StreamRefused(StreamError):
    """The upstream will not serve this request however often it is asked (401, 403, 404, a redirect elsewhere)."""


class StreamLost(StreamError):
    """The connection ended or never came about; the next attempt may succeed.

    `cause` picks the ladder of delays: "network", "http", "encoding" or "rate_limit"; `retry_after_s` is the upstream's
    own word.
    """

    def __init__(self, message: str, *, cause: str = "network", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.retry_after_s = retry_after_s


class StoreError(TweetboardError):
    """Redis failed."""


class StoreUnavailable(StoreError):
    """Redis cannot be reached, is loading, or gave no answer in time; whether a command was carried out is unknown."""


class StoreRefused(StoreError):
    """Redis answered with an error that waiting does not mend; nothing was written."""


class SessionEnded(TweetboardError):
    """This session may append no more: it was fenced, or its memory no longer reaches back far enough."""


class EmbeddedServerError(TweetboardError):
    """The private server could not be started; the message ends with what it wrote last."""


class BoardsUnavailable(TweetboardError):
    """Where boards should be served nobody answers, or not with what was asked for."""


class NotDrained(TweetboardError):
    """The stop's deadline passed with names read but not on the boards; the message says how many."""
