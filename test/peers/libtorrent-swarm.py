"""A BitTorrent client that libtorrent runs, for interop tests and for the benchmark beside ours. It listens on loopback, talks
to nobody that it is not told of, and ends when stdin does.

    libtorrent-swarm.py seed  FILE.torrent         DIR PORT [OPTIONS]
    libtorrent-swarm.py leech FILE.torrent|magnet: DIR PORT HOST:PORT... [OPTIONS]

PORT 0: any. OPTIONS: --only N (file number, the others are not fetched), --up N and --down N (bytes a second),
--plain (no encrypted connections), --verbose (alerts on stderr). One JSON object a line on stdout:

    {"event": "listening", "port": N}
    {"event": "ready"}                                           seed: the files were checked
    {"event": "status", ...}                                     for each line on stdin, whatever it says
    {"event": "progress", "bytes": N, "seconds": S}              leech: about twice a second
    {"event": "done", "bytes": N, "seconds": S, "rate": N}       leech: everything wanted is verified and in its files; bytes a second,
                                                                 up to where it was verified
    {"event": "failed", "why": TEXT}
"""

import argparse
import json
import sys
import threading
import time

import libtorrent as lt


def say(event, **fields):
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["seed", "leech"])
    parser.add_argument("torrent")
    parser.add_argument("dir")
    parser.add_argument("port", type=int)
    parser.add_argument("peers", nargs="*")
    parser.add_argument("--only", type=int)
    parser.add_argument("--up", type=int, default=0)
    parser.add_argument("--down", type=int, default=0)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def settings(args):
    found = {
        "listen_interfaces": "127.0.0.1:%d" % args.port,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "allow_multiple_connections_per_ip": True,
        "upload_rate_limit": args.up,
        "download_rate_limit": args.down,
        # Connections on loopback would else not count against the limits, and a failed one would be tried late again.
        "min_reconnect_time": 1,
        "alert_mask": 0x7FFFFFFF if args.verbose else lt.alert.category_t.error_notification
        | lt.alert.category_t.status_notification
        | lt.alert.category_t.storage_notification,
    }
    if args.plain:
        found["in_enc_policy"] = found["out_enc_policy"] = 2
    return found


def parameters(args):
    if args.torrent.startswith("magnet:"):
        found = lt.parse_magnet_uri(args.torrent)
    else:
        found = lt.add_torrent_params()
        found.ti = lt.torrent_info(args.torrent)
    found.save_path = args.dir
    found.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    return found


def status_of(handle):
    status = handle.status()
    return {
        "state": str(status.state),
        "peers": status.num_peers,
        "pieces": status.num_pieces,
        "done": status.total_wanted_done,
        "wanted": status.total_wanted,
        "downloaded": status.total_payload_download,
        "uploaded": status.total_payload_upload,
        "failed": status.total_failed_bytes,
    }


def drain(session, args):
    alerts = session.pop_alerts()
    if args.verbose:
        for alert in alerts:
            sys.stderr.write("%s: %s\n" % (alert.what(), alert))
    return alerts


def flush(session, handle, args):
    """libtorrent verifies what it has received, and is finished then, though its threads may still be writing."""
    handle.flush_cache()
    while not any(isinstance(alert, lt.cache_flushed_alert) for alert in drain(session, args)):
        session.wait_for_alert(50)


def answer_lines(handle):
    for _ in sys.stdin:
        say("status", **status_of(handle))


def choose(handle, only):
    """File numbers are libtorrent's, in the order of the torrent; it numbers no padding here."""
    count = handle.torrent_file().num_files()
    handle.prioritize_files([4 if number == only else 0 for number in range(count)])


def run(session, handle, args):
    started = time.monotonic()
    shown = 0
    chosen = args.only is None
    while True:
        session.wait_for_alert(50)
        drain(session, args)
        status = handle.status()
        if status.errc.value() != 0:
            say("failed", why=status.errc.message())
            return
        if not chosen and status.has_metadata:
            choose(handle, args.only)
            chosen = True
        seconds = time.monotonic() - started
        if args.role == "seed" and status.is_seeding:
            say("ready")
            return
        if args.role == "leech" and chosen and status.has_metadata and status.is_finished:
            done = status.total_wanted_done
            flush(session, handle, args)
            say("done", bytes=done, seconds=seconds, rate=done / seconds)
            return
        if args.role == "leech" and seconds - shown > 0.5:
            shown = seconds
            say("progress", bytes=status.total_wanted_done, seconds=seconds)


def main():
    args = arguments()
    session = lt.session(settings(args))
    while session.listen_port() == 0:
        time.sleep(0.01)
    say("listening", port=session.listen_port())
    handle = session.add_torrent(parameters(args))
    for peer in args.peers:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    answering = threading.Thread(target=answer_lines, args=(handle,), daemon=True)
    answering.start()
    run(session, handle, args)
    while answering.is_alive():
        drain(session, args)
        answering.join(0.2)


main()
