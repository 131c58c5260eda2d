"""The design that comes to mind first: requests and json, one PUBLISH a name, one ZINCRBY a message, a process each."""

import json
import sys

import redis
import requests

BOARDS = {"usernames": "username_scoreboard", "hashtags": "hashtags_scoreboard"}


def publish(stream_url: str, client: redis.Redis) -> None:
    """Read the stream line by line and publish every author and every hashtag."""
    with requests.get(stream_url, stream=True, timeout=60) as response:
        for line in response.iter_lines():
            if not line:
                continue
            record = json.loads(line)
            post, includes = record["data"], record["includes"]
            for user in includes["users"]:
                if user["id"] == post["author_id"]:
                    client.publish("usernames", user["username"])
                    break
            entities = (includes.get("tweets") or [post])[0]["entities"]
            for hashtag in entities.get("hashtags", []):
                client.publish("hashtags", hashtag["tag"].lower())


def count(channel: str, client: redis.Redis) -> None:
    """Add one to a name's score for every message."""
    pubsub = client.pubsub()  # type: ignore[no-untyped-call]
    pubsub.subscribe(channel)
    for message in pubsub.listen():
        if message["type"] == "subscribe":
            sys.stdout.write("subscribed\n")
            sys.stdout.flush()
        elif message["type"] == "message":
            client.zincrby(BOARDS[channel], 1, message["data"])


if __name__ == "__main__":
    what, redis_url = sys.argv[1:]
    connected = redis.Redis.from_url(redis_url)
    if what in BOARDS:
        count(what, connected)
    else:
        publish(what, connected)
