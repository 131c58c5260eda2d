"""Every answer of journal.lua: begin, append, their refusals, and that a refusal changes nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetboard.channel import body, subscribe
from tweetboard.errors import SessionEnded, StoreRefused, StoreUnavailable
from tweetboard.journal import NO_BATCH, Begun, Journal, OutOfStep, Session
from tweetboard.outbox import Batch
from tweetboard.schema import NAME
from tweetboard.store import Argument, Script, Store, open_store

BOARDS = [("usernames", "ub"), ("hashtags", "hb")]
STREAM, ENTRIES, IDS = "tweetboard:x", "tweetboard:x:journal", "tweetboard:x:ids"


@pytest.fixture
def journal(store: Store) -> Journal:
    return Journal(store, "x", BOARDS)


@pytest.fixture
def fake_journal(fake_store: Store) -> Journal:
    return Journal(fake_store, "x", BOARDS)


def batch(seq: int, *names: str, position: str = "", ids: tuple[str, ...] = ()) -> Batch:
    bodies = {"usernames": body([(1763805600, len(names))] if names else [], list(names)), "hashtags": body([], [])}
    return Batch(seq, position or f"after {seq}", bodies, len(names), list(ids), 0)


def session_of(begun: Begun) -> Session:
    return Session(begun, [channel for channel, _ in BOARDS])


async def session_at(journal: Journal, seq: int) -> Session:
    """Begin a session and append `seq` batches, which no board applies."""
    session = session_of(await journal.begin())
    for number in range(1, seq + 1):
        await journal.append(session, batch(number, f"name {number}"))
    return session


async def everything(store: Store) -> dict[bytes, object]:
    """All that Redis holds, byte by byte."""
    keys = cast("list[bytes]", await store.execute("KEYS", "*"))
    return {key: await store.execute("DUMP", key) for key in keys}


async def hash_of(store: Store, key: str) -> dict[bytes, bytes]:
    return cast("dict[bytes, bytes]", await store.execute("HGETALL", key))


async def applied(store: Store) -> list[object]:
    return [await store.execute("HGET", f"{key}:applied", "x") for _, key in BOARDS]


async def set_applied(store: Store, usernames: int, hashtags: int) -> None:
    await store.execute("HSET", "ub:applied", "x", usernames)
    await store.execute("HSET", "hb:applied", "x", hashtags)


async def numbers(store: Store) -> list[int]:
    """Say which batches the journal holds."""
    entries = cast("list[tuple[bytes, object]]", await store.execute("XRANGE", ENTRIES, "-", "+"))
    return [int(entry_id.split(b"-")[0]) for entry_id, _ in entries]


@asynccontextmanager
async def hearing(store: Store, channel: str) -> AsyncIterator[AsyncIterator[bytes | None]]:
    """Subscribe to a channel, the confirmation heard."""
    async with asyncio.timeout(10), subscribe(store, channel) as subscription:
        items = aiter(subscription)
        assert await anext(items) is None
        yield items


# --- begin ---


async def test_a_stream_never_seen_begins_at_batch_0_and_so_do_its_boards(fake_journal: Journal) -> None:
    begun = await fake_journal.begin()
    store = fake_journal._store  # noqa: SLF001 - to look behind it
    assert begun == Begun(begun.token, 0, "", "", [], 0)
    assert await hash_of(store, STREAM) == {
        b"owner": begun.token.encode(),
        b"after": b"",
        b"seq": b"0",
        b"boards": b'["ub (usernames)","hb (hashtags)"]',
    }
    assert await applied(store) == [b"0", b"0"]


async def test_begins_whose_answers_were_lost_do_not_stand_between_a_session_and_the_one_before(
    fake_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two were carried out, and nobody knows; what they took over from is still said, be it ours or another's."""
    first = (await fake_journal.begin()).token
    for _ in range(2):
        await unanswered_begin(fake_journal, monkeypatch)
    assert (await fake_journal.begin()).predecessor == first
    await fake_journal._store.execute("HSET", STREAM, "owner", "another")  # noqa: SLF001 - who took over
    await unanswered_begin(fake_journal, monkeypatch)
    assert (await fake_journal.begin()).predecessor == "another"


async def unanswered_begin(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    run = journal._store.run  # noqa: SLF001 - where answers are lost

    async def lost(script: Script, keys: Sequence[str], *arguments: Argument) -> object:
        await run(script, keys, *arguments)
        raise StoreUnavailable("the connection was cut")

    with monkeypatch.context() as patched:
        patched.setattr(journal._store, "run", lost)  # noqa: SLF001 - as above
        with pytest.raises(StoreUnavailable):
            await journal.begin()


async def test_no_token_is_used_twice(fake_journal: Journal) -> None:
    tokens = {(await fake_journal.begin()).token for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 16 and set(token) <= set("0123456789abcdef") for token in tokens)


async def test_the_next_session_goes_on_where_the_last_one_was(fake_journal: Journal) -> None:
    first = await session_at(fake_journal, 3)
    begun = await fake_journal.begin()
    assert begun == Begun(begun.token, 3, "after 3", first.token, [], 0)
    await fake_journal.append(session_of(begun), batch(4))
    assert (await fake_journal.look()) == (begun.token, 4)


async def test_a_board_new_to_the_stream_counts_from_here_on(journal: Journal, store: Store) -> None:
    await Journal(store, "x", BOARDS[:1]).begin()
    session = session_of(await Journal(store, "x", BOARDS[:1]).begin())
    for seq in (1, 2):
        await Journal(store, "x", BOARDS[:1]).append(session, batch(seq))
    begun = await journal.begin()
    assert (begun.dropped_boards, begun.lost_batches) == ([], 0)
    assert await applied(store) == [b"0", b"2"]


async def test_a_board_no_longer_fed_is_named_once_and_no_longer_holds_the_journal_back(
    journal: Journal, store: Store
) -> None:
    await session_at(journal, 2)
    await set_applied(store, 2, 0)
    alone = Journal(store, "x", BOARDS[:1])
    begun = await alone.begin()
    assert (begun.dropped_boards, begun.lost_batches) == (["hb (hashtags)"], 0)
    assert await alone.append(session_of(begun), batch(3)) == 2
    assert await numbers(store) == [3]
    assert (await alone.begin()).dropped_boards == []


async def test_a_board_that_is_fed_again_counts_from_here_on(journal: Journal, store: Store) -> None:
    await session_at(journal, 1)
    await set_applied(store, 1, 1)
    alone = Journal(store, "x", BOARDS[:1])
    begun = await alone.begin()
    await alone.append(session_of(begun), batch(2))
    await store.execute("HSET", "ub:applied", "x", 2)
    again = await journal.begin()
    assert again.lost_batches == 0, "what passed meanwhile was never promised to it"
    assert await applied(store) == [b"2", b"2"]


async def test_a_board_ahead_of_its_stream_starts_at_the_streams_end(journal: Journal, store: Store) -> None:
    """So it is when somebody has deleted the stream's keys, or restored older ones."""
    await session_at(journal, 2)
    await set_applied(store, 7, 1)
    assert (await journal.begin()).lost_batches == 0
    assert await applied(store) == [b"2", b"1"]


async def test_batches_that_left_the_journal_too_early_are_counted_and_passed_over(
    journal: Journal, store: Store
) -> None:
    await session_at(journal, 6)
    await set_applied(store, 1, 4)
    await store.execute("XTRIM", ENTRIES, "MINID", "5-0")
    assert (await journal.begin()).lost_batches == 3, "2, 3 and 4 for usernames; hashtags has them"
    assert await applied(store) == [b"4", b"4"]
    assert (await journal.begin()).lost_batches == 0, "said once"


async def test_a_board_whose_place_somebody_has_deleted_loses_at_most_what_the_journal_has(
    journal: Journal, store: Store
) -> None:
    await session_at(journal, 6)
    await set_applied(store, 2, 6)
    await store.execute("XTRIM", ENTRIES, "MINID", "3-0")
    await store.execute("DEL", "ub:applied")
    assert (await journal.begin()).lost_batches == 4
    assert await applied(store) == [b"6", b"6"]
    assert (await journal.begin()).lost_batches == 0, "said once"


async def test_a_deleted_journal_loses_what_no_board_had_yet(journal: Journal, store: Store) -> None:
    await session_at(journal, 6)
    await set_applied(store, 4, 6)
    await store.execute("DEL", ENTRIES)
    assert (await journal.begin()).lost_batches == 2
    assert await applied(store) == [b"6", b"6"]


async def test_a_journal_without_its_stream_is_left_over_and_goes(journal: Journal, store: Store) -> None:
    await session_at(journal, 3)
    await set_applied(store, 1, 2)
    await store.execute("DEL", STREAM)
    begun = await journal.begin()
    assert (begun.seq, begun.position, begun.predecessor, begun.lost_batches) == (0, "", "", 0)
    assert await numbers(store) == []
    assert await applied(store) == [b"0", b"0"]
    assert await journal.append(session_of(begun), batch(1)) == 0


async def test_to_begin_keeps_the_ids_of_recent_posts_and_the_position(journal: Journal) -> None:
    session = session_of(await journal.begin())
    await journal.append(session, batch(1, position="p", ids=("7", "8")), keep_ids_s=60)
    assert (await journal.begin()).position == "p"
    assert await journal.recent_ids() == ["7", "8"]


async def test_two_streams_on_the_same_boards_know_nothing_of_each_other(journal: Journal, store: Store) -> None:
    await session_at(journal, 2)
    other = Journal(store, "y", BOARDS)
    begun = await other.begin()
    assert (begun.seq, begun.lost_batches) == (0, 0)
    assert await other.append(session_of(begun), batch(1)) == 0
    assert await hash_of(store, "ub:applied") == {b"x": b"0", b"y": b"0"}


# --- append ---


async def test_an_append_journals_publishes_numbers_and_stores_the_position(journal: Journal, store: Store) -> None:
    session = session_of(await journal.begin())
    async with hearing(store, "usernames") as usernames, hearing(store, "hashtags") as hashtags:
        assert await journal.append(session, batch(1, "alice", "bob", position="1763805600:7")) == 0
        heard = [await anext(usernames), await anext(hashtags)]
    assert heard == [
        b'{"source":"x","session":"%b","seq":1,"times":[[1763805600,2]],"names":["alice","bob"]}'
        % session.token.encode(),
        b'{"source":"x","session":"%b","seq":1,"times":[],"names":[]}' % session.token.encode(),
    ], "every batch goes out on every channel, also where it has no names"
    assert await store.execute("XRANGE", ENTRIES, "-", "+") == [
        (b"1-0", {b"usernames": heard[0], b"hashtags": heard[1]})
    ]
    state = await hash_of(store, STREAM)
    assert (state[b"seq"], state[b"position"]) == (b"1", b"1763805600:7")
    assert await store.execute("EXISTS", IDS) == 0


async def test_channels_keys_and_journal_fields_have_the_prefix(valkey_url: str, store: Store) -> None:
    async with open_store(valkey_url, connections=4, prefix="{tb}:") as prefixed:
        journal = Journal(prefixed, "x", BOARDS)
        session = session_of(await journal.begin())
        async with hearing(store, "{tb}:usernames") as usernames, hearing(store, "{tb}:hashtags") as hashtags:
            await journal.append(session, batch(1, "alice", ids=("1",)), keep_ids_s=60)
            heard = await anext(usernames)
            assert await anext(hashtags) is not None
        assert await journal.read("usernames", 0, 10) == [(1, heard)]
    keys = cast("list[bytes]", await store.execute("KEYS", "*"))
    assert sorted(keys) == sorted(
        b"{tb}:" + key.encode() for key in (STREAM, ENTRIES, IDS, NAME, "ub:applied", "hb:applied")
    )


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=20)


@given(names=NAMES, position=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_names_and_any_position_come_back_as_they_went_in(
    store: Store, names: list[str], position: str
) -> None:
    journal = Journal(store, "x", BOARDS)
    begun = await journal.begin()
    await journal.append(session_of(begun), batch(begun.seq + 1, *names, position=position or "p"))
    ((_, data),) = await journal.read("usernames", begun.seq, 1)
    assert json.loads(data)["names"] == names
    assert (await journal.begin()).position == (position or "p")


@pytest.mark.parametrize("seq", [1, 2, 4, 100])
async def test_a_batch_that_does_not_follow_is_refused_with_the_last_one_and_changes_nothing(
    journal: Journal, store: Store, seq: int
) -> None:
    session = await session_at(journal, 2)
    before = await everything(store)
    async with hearing(store, "usernames") as usernames:
        with pytest.raises(OutOfStep) as caught:
            await journal.append(session, batch(seq, "alice", ids=("1",)), keep_ids_s=60)
        assert caught.value.seq == 2
        assert await everything(store) == before
        await store.execute("PUBLISH", "usernames", "nothing before this")
        assert await anext(usernames) == b"nothing before this"


async def test_a_batch_sent_again_after_a_lost_answer_is_refused(journal: Journal, store: Store) -> None:
    session = await session_at(journal, 1)
    before = await everything(store)
    with pytest.raises(OutOfStep):
        await journal.append(session, batch(1, "name 1"))
    assert await everything(store) == before


async def test_whoever_is_no_longer_the_owner_is_refused_and_changes_nothing(journal: Journal, store: Store) -> None:
    first = await session_at(journal, 2)
    await journal.begin()
    before = await everything(store)
    async with hearing(store, "usernames") as usernames:
        with pytest.raises(SessionEnded, match="stream x: another session has taken over"):
            await journal.append(first, batch(3, "alice", ids=("1",)), keep_ids_s=60)
        assert await everything(store) == before
        await store.execute("PUBLISH", "usernames", "nothing before this")
        assert await anext(usernames) == b"nothing before this"


async def test_a_stream_that_has_no_owner_takes_nothing(journal: Journal, store: Store) -> None:
    session = await session_at(journal, 1)
    await store.execute("FLUSHALL")
    with pytest.raises(SessionEnded):
        await journal.append(session, batch(1, "alice"))
    assert await everything(store) == {}


async def test_the_journal_is_trimmed_to_what_every_board_has(journal: Journal, store: Store) -> None:
    session = await session_at(journal, 5)
    assert await numbers(store) == [1, 2, 3, 4, 5]
    await set_applied(store, 5, 3)
    assert await journal.append(session, batch(6)) == 3
    assert await numbers(store) == [4, 5, 6]
    await set_applied(store, 6, 6)
    assert await journal.append(session, batch(7)) == 6
    assert await numbers(store) == [7]


async def test_a_board_that_says_nothing_of_the_stream_keeps_the_whole_journal(journal: Journal, store: Store) -> None:
    session = await session_at(journal, 2)
    await set_applied(store, 2, 2)
    await store.execute("DEL", "hb:applied")
    assert await journal.append(session, batch(3)) == 0
    assert await numbers(store) == [1, 2, 3]


async def test_a_trimmed_journal_goes_on_with_the_next_number(journal: Journal, store: Store) -> None:
    session = await session_at(journal, 2)
    await store.execute("XTRIM", ENTRIES, "MAXLEN", "0")
    await set_applied(store, 2, 2)
    await journal.append(session, batch(3))
    assert await numbers(store) == [3]


async def test_ids_are_kept_with_their_batch_and_forgotten_by_age(journal: Journal, store: Store) -> None:
    """By Redis's own clock: one that jumps on our side must not make it forget what may come again."""
    session = session_of(await journal.begin())
    await journal.append(session, batch(1, ids=("old", "old but seen again", "young")), keep_ids_s=60)
    now = int(cast("list[bytes]", await store.execute("TIME"))[0])
    for name, age_s in (("old", 62), ("old but seen again", 62), ("young", 50)):
        await store.execute("ZADD", "tweetboard:x:ids", now - age_s, name)
    await journal.append(session, batch(2, ids=("new", "old but seen again")), keep_ids_s=60)
    assert sorted(await journal.recent_ids()) == ["new", "old but seen again", "young"]


async def test_a_pause_of_the_stream_makes_no_id_older(journal: Journal, store: Store) -> None:
    """Upstream sends again what came just before the pause, however long that was."""
    session = session_of(await journal.begin())
    await journal.append(session, batch(1, ids=("before",)), keep_ids_s=60)
    await store.execute("HINCRBY", STREAM, "ids_at", -100_000)
    for seq in range(2, 62):
        await journal.append(session, batch(seq, ids=(str(seq),)), keep_ids_s=60)
    assert len(await journal.recent_ids()) == 61
    await store.execute("HINCRBY", STREAM, "ids_clock", 61)
    await journal.append(session, batch(62, ids=("after",)), keep_ids_s=60)
    assert await journal.recent_ids() == ["after"]


async def test_no_ids_are_kept_where_none_are_wanted(fake_journal: Journal) -> None:
    session = session_of(await fake_journal.begin())
    await fake_journal.append(session, batch(1, ids=("a", "b")))
    assert await fake_journal.recent_ids() == []


async def test_a_server_that_forgot_the_script_appends_all_the_same_and_once(journal: Journal, store: Store) -> None:
    session = await session_at(journal, 1)
    await store.execute("SCRIPT", "FLUSH")
    await journal.append(session, batch(2))
    assert await numbers(store) == [1, 2]


# --- What an operator can get wrong ---


async def test_a_user_that_may_not_publish_is_told_so_and_nothing_is_written(
    journal: Journal, store: Store, valkey_url: str
) -> None:
    await store.execute("ACL", "SETUSER", "mute", "on", "nopass", "~*", "&*", "+@all", "-publish")
    try:
        session = await session_at(journal, 2)
        before = await everything(store)
        async with open_store(valkey_url.replace("unix://", "unix://mute:x@"), connections=1) as mute:
            with pytest.raises(StoreRefused, match=f"refused append on {STREAM}, "):
                await Journal(mute, "x", BOARDS).append(session, batch(3, "alice"))
        assert await everything(store) == before
    finally:
        await store.execute("ACL", "DELUSER", "mute")


async def test_a_user_that_may_not_use_the_channels_is_told_so_and_nothing_is_written(
    journal: Journal, store: Store, valkey_url: str
) -> None:
    await store.execute("ACL", "SETUSER", "deaf", "on", "nopass", "~*", "resetchannels", "&usernames", "+@all")
    try:
        session = await session_at(journal, 2)
        before = await everything(store)
        async with open_store(valkey_url.replace("unix://", "unix://deaf:x@"), connections=1) as deaf:
            with pytest.raises(StoreRefused, match="refused append"):
                await Journal(deaf, "x", BOARDS).append(session, batch(3, "alice"))
        assert await everything(store) == before
    finally:
        await store.execute("ACL", "DELUSER", "deaf")


@pytest.mark.parametrize("key", [STREAM, ENTRIES, IDS, "ub:applied", "hb:applied"])
async def test_an_append_to_a_key_of_another_type_names_the_keys_and_writes_nothing(
    journal: Journal, store: Store, key: str
) -> None:
    session = await session_at(journal, 2)
    await store.execute("DEL", key)
    await store.execute("SET", key, "something else")
    before = await everything(store)
    with pytest.raises(StoreRefused, match=f"refused append on .*{key}.*WRONGTYPE"):
        await journal.append(session, batch(3, "alice", ids=("1",)), keep_ids_s=60)
    assert await everything(store) == before


@pytest.mark.parametrize(
    ("seq", "key"),
    [
        (0, STREAM),
        (2, STREAM),
        (0, ENTRIES),
        (2, ENTRIES),
        (0, "ub:applied"),
        (2, "ub:applied"),
        (0, "hb:applied"),
        (2, "hb:applied"),
    ],
)
async def test_a_begin_with_a_key_of_another_type_names_the_keys_and_writes_nothing(
    journal: Journal, store: Store, seq: int, key: str
) -> None:
    await session_at(journal, seq)
    await set_applied(store, seq + 1, seq + 1)  # each of them to be set right
    await store.execute("DEL", key)
    await store.execute("SET", key, "something else")
    before = await everything(store)
    with pytest.raises(StoreRefused, match=f"refused begin on .*{key}.*WRONGTYPE"):
        await journal.begin()
    assert await everything(store) == before


@pytest.mark.parametrize(
    ("key", "command"),
    [
        (STREAM, ("HSET", STREAM, "colour", "blue")),
        (ENTRIES, ("XADD", ENTRIES, "1-0", "event", "login")),
        (ENTRIES, ("XADD", ENTRIES, "5-0", "usernames", '{"source":"y","session":"1","seq":5}')),
        (IDS, ("ZADD", IDS, 42, "player")),
    ],
)
async def test_a_begin_beside_another_programs_data_says_where_and_touches_nothing(
    journal: Journal, store: Store, key: str, command: tuple[Argument, ...]
) -> None:
    await store.execute(*command)
    before = await everything(store)
    with pytest.raises(StoreRefused, match=f"FOREIGN {key} holds another program's data; choose another redis.prefix"):
        await journal.begin()
    assert await everything(store) == before


# --- Reading ---


async def test_reading_begins_after_a_batch_and_is_bounded(fake_journal: Journal) -> None:
    session = await session_at(fake_journal, 5)
    read = await fake_journal.read("usernames", 2, 2)
    assert [seq for seq, _ in read] == [3, 4]
    assert [json.loads(data)["names"] for _, data in read] == [["name 3"], ["name 4"]]
    assert {json.loads(data)["session"] for _, data in read} == {session.token}
    assert await fake_journal.read("usernames", 5, 2) == []
    assert [seq for seq, _ in await fake_journal.read("hashtags", 0, 100)] == [1, 2, 3, 4, 5]


async def test_what_comes_after_a_hole_is_read_all_the_same(fake_journal: Journal) -> None:
    await session_at(fake_journal, 4)
    await fake_journal._store.execute("XDEL", ENTRIES, "2-0")  # noqa: SLF001 - to look behind it
    assert [seq for seq, _ in await fake_journal.read("usernames", 1, 10)] == [3, 4]


async def test_only_the_owner_notes_until_when_it_has_listened(fake_journal: Journal) -> None:
    begun = await fake_journal.begin()
    assert begun.heard_until == 0
    await fake_journal.look(begun.token, 1_795_000_000.5)
    await fake_journal.look("somebody else", 1_895_000_000.0)
    await fake_journal.look(begun.token)
    assert (await fake_journal.begin()).heard_until == 1_795_000_000.5


async def test_looking_tells_the_owner_and_the_last_batch(fake_journal: Journal) -> None:
    assert await fake_journal.look() == ("", 0)
    session = await session_at(fake_journal, 2)
    assert await fake_journal.look() == (session.token, 2)


# --- The session ---


def session() -> Session:
    return session_of(Begun("token", 7, "", "", [], 0))


def test_a_session_knows_what_every_board_has() -> None:
    told = list[int]()
    one = Session(Begun("token", 7, "", "", [], 0), ["usernames", "hashtags"], told.append)
    assert (one.token, one.seq, one.lowest_applied) == ("token", 7, NO_BATCH)
    one.note_applied("usernames", 7)
    assert one.advanced.is_set()
    one.note_applied("hashtags", 5)
    assert told == [NO_BATCH, 5]
    assert one.lowest_applied == 5


def test_a_session_that_goes_back_takes_its_boards_with_it() -> None:
    one = session()
    one.note_applied("usernames", 7)
    one.note_applied("hashtags", 3)
    one.go_back_to(5)
    assert (one.seq, one.applied) == (5, {"usernames": 5, "hashtags": 3})


def test_a_broken_session_says_why() -> None:
    one = session()
    error = one.broken_by("batch 3 has gone from the journal")
    assert isinstance(error, SessionEnded)
    assert "batch 3 has gone" in str(error)
    assert one.broken == "batch 3 has gone from the journal"


def test_whoever_listens_is_told_of_a_new_session(fake_journal: Journal) -> None:
    seen = list[Session | None]()
    fake_journal.listeners.append(lambda: seen.append(fake_journal.session))
    first, second = session(), session()
    fake_journal.open(first)
    fake_journal.open(second)
    assert seen == [first, second]


async def test_a_board_under_another_channel_is_new_to_the_stream(journal: Journal, store: Store) -> None:
    """What the journal still has for it is under its old name, and another's is under the new one."""
    begun = await journal.begin()
    session = Session(begun, ["usernames", "hashtags"])
    await journal.append(session, batch(1, "alice"))
    swapped = Journal(store, "x", [("usernames", "hb"), ("hashtags", "ub")])
    again = await swapped.begin()
    assert (again.seq, again.lost_batches) == (1, 0)
    assert await store.execute("HGET", "hb:applied", "x") == b"1"
    assert await store.execute("HGET", "ub:applied", "x") == b"1"
    renamed = Journal(store, "x", [("people", "ub"), ("hashtags", "hb")])
    await renamed.begin()
    assert await renamed.read("people", 1, 10) == []


async def test_boards_as_earlier_versions_noted_them_are_known(journal: Journal, store: Store) -> None:
    begun = await journal.begin()
    session = Session(begun, ["usernames", "hashtags"])
    await journal.append(session, batch(1, "alice"))
    await store.execute("HSET", "tweetboard:x", "boards", '["ub","hb"]')
    assert (await journal.begin()).dropped_boards == []
    assert await store.execute("HGET", "ub:applied", "x") == b"0", "and have the batch still to come"
