"""The design that comes to mind first, under the same faults: what it loses and counts twice is the column beside ours.

One process reads the stream and publishes each name; one for each channel adds one to a score for each message. Each
begins again by itself after any error, as a supervisor would have it, and redis-py's settings are its defaults.
"""

import json
import sys
import time

import redis
import requests

BOARDS = {"usernames": "username_scoreboard", "hashtags": "hashtags_scoreboard"}
PAUSE_S = 0.1


def publish(stream_url: str, client: redis.Redis) -> None:
    """Read the stream line by line and publish every author and every hashtag."""
    with requests.get(stream_url, stream=True, timeout=60) as response:
        for line in response.iter_lines():
            if not line:
                continue
            try:
                post = json.loads(line)
            except ValueError:  # a line that was cut
                continue
            client.publish("usernames", post["username"])
            for tag in {tag.lower() for tag in post["hashtags"]}:
                client.publish("hashtags", tag)


def count(channel: str, client: redis.Redis) -> None:
    """Add one to a name's score for every message."""
    pubsub = client.pubsub()  # type: ignore[no-untyped-call]
    pubsub.subscribe(channel)
    for message in pubsub.listen():
        if message["type"] == "message":
            client.zincrby(BOARDS[channel], 1, message["data"])


if __name__ == "__main__":
    what, redis_path = sys.argv[1:]
    while True:
        try:
            connected = redis.Redis(unix_socket_path=redis_path)
            (count if what in BOARDS else publish)(what, connected)
        except (OSError, redis.RedisError, requests.RequestException):
            time.sleep(PAUSE_S)
