"""A node of the Mainline DHT that libtorrent runs, for interop tests: one command a line on stdin, one answer a line on
stdout, both JSON. It listens on loopback only and ends when stdin does."""

import binascii
import hashlib
import json
import sys
import time

import libtorrent as lt

SETTINGS = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_privacy_lookups": False,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": 0x7FFFFFFF,
}


def say(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def hexadecimal(data):
    return binascii.hexlify(data).decode()


def wait_for(session, kind, seconds=20):
    """The first alert of this kind for which `kind` gives something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            found = kind(alert)
            if found is not None:
                return found
    return None


def expanded(seed):
    """The 64 bytes that libtorrent calls the private key: SHA-512 of the seed, clamped (RFC 8032, section 5.1.5)."""
    secret = bytearray(hashlib.sha512(seed).digest())
    secret[0] &= 248
    secret[31] = secret[31] & 63 | 64
    return bytes(secret)


def peers_of(alert):
    if not isinstance(alert, lt.dht_get_peers_reply_alert):
        return None
    return [list(peer) for peer in alert.peers()] or None


def item_of(alert):
    if not isinstance(alert, lt.dht_mutable_item_alert) or not alert.authoritative:
        return None
    return {"value": alert.item["value"], "seq": alert.item["seq"]}


def stored_of(alert):
    return alert.num_success if isinstance(alert, lt.dht_put_alert) else None


def as_bytes(value):
    return value if isinstance(value, bytes) else value.encode("latin-1")


def handle(session, command):
    name = command["do"]
    if name == "add":
        session.add_dht_node((command["host"], command["port"]))
        return {}
    if name == "count":
        session.post_dht_stats()
        table = wait_for(
            session, lambda a: a.routing_table if isinstance(a, lt.dht_stats_alert) else None, 5
        )
        return {"count": sum(bucket["num_nodes"] for bucket in table or [])}
    if name == "get_peers":
        session.dht_get_peers(lt.sha1_hash(binascii.unhexlify(command["hash"])))
        return {"peers": wait_for(session, peers_of)}
    if name == "announce":
        # session.dht_announce cannot be called in 2.0.8 (its flags have no Python type): a torrent announces itself.
        torrent = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + command["hash"])
        torrent.save_path = "/nonexistent"
        torrent.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
        session.add_torrent(torrent).force_dht_announce()
        return {"port": session.listen_port()}
    if name == "put":
        public = binascii.unhexlify(command["public"])
        private = expanded(binascii.unhexlify(command["seed"]))
        session.dht_put_mutable_item(private, public, command["value"], command["salt"])
        return {"stored": wait_for(session, stored_of)}
    if name == "get":
        session.dht_get_mutable_item(binascii.unhexlify(command["public"]), command["salt"])
        item = wait_for(session, item_of)
        if item is None:
            return {"item": None}
        return {"item": {"value": hexadecimal(as_bytes(item["value"])), "seq": item["seq"]}}
    return {"error": "unknown"}


def main():
    session = lt.session(SETTINGS)
    until = time.monotonic() + 10
    while session.listen_port() == 0 and time.monotonic() < until:
        time.sleep(0.02)
    say(port=session.listen_port())
    for line in sys.stdin:
        try:
            say(**handle(session, json.loads(line)))
        except Exception as error:  # Whatever it is, the test that asked shall see it.
            say(error=repr(error))


main()
