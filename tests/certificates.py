"""Certificates of an authority made up for a test, and of another that nobody trusts."""

import datetime as dt
import ssl
from pathlib import Path

import trustme

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def certificates(folder: Path) -> None:
    """Write into `folder`: ca.pem, other-ca.pem; and of each of these a certificate NAME.pem and its NAME.key.

    "good" is of localhost; "wrong" of another host; "old" has expired; "unknown" is by the other authority; "client"
    and "stranger" are of clients, the second by the other authority.
    """
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    others.cert_pem.write_to_path(folder / "other-ca.pem")
    issued = {
        "good": ours.issue_cert("localhost", "127.0.0.1"),
        "wrong": ours.issue_cert("elsewhere.example"),
        "old": ours.issue_cert("localhost", "127.0.0.1", not_after=PAST),
        "unknown": others.issue_cert("localhost", "127.0.0.1"),
        "client": ours.issue_cert("client.example"),
        "stranger": others.issue_cert("client.example"),
    }
    for name, one in issued.items():
        (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in one.cert_chain_pems))
        one.private_key_pem.write_to_path(folder / f"{name}.key")


def server_context(folder: Path, name: str) -> ssl.SSLContext:
    """Make what a server needs that shows the certificate `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context
