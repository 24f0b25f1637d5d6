"""What libtorrent says of torrents: one JSON line on stdout.

  libtorrent-load.py                       reads a .torrent file on stdin
  libtorrent-load.py magnet:?...           reads a magnet link
  libtorrent-load.py --make NAME BYTES     makes a v2 torrent NAME of core.cbor (the first BYTES of stdin) and model.gguf"""

import json
import os
import sys
import tempfile

import libtorrent as lt

PIECE_BYTES = 1 << 20


def say(answer):
    print(json.dumps(answer))


def layers_in(torrent):
    return {key.hex(): value.hex() for key, value in torrent.get(b"piece layers", {}).items()}


def load(data):
    # Refuses hashes of pieces that do not fit the roots.
    info = lt.load_torrent_buffer(data).ti
    files = info.files()
    say(
        {
            "v2": str(info.info_hashes().v2),
            "isV1": info.info_hashes().has_v1(),
            "name": info.name(),
            "pieceBytes": info.piece_length(),
            "pieceCount": info.num_pieces(),
            "files": [
                {
                    "path": files.file_path(at),
                    "size": files.file_size(at),
                    "root": files.root(at).to_bytes().hex(),
                    "first": files.piece_index_at_file(at),
                }
                for at in range(files.num_files())
                if not files.file_flags(at) & lt.file_storage.flag_pad_file
            ],
            "layers": layers_in(lt.bdecode(data)),
        }
    )


def magnet(link):
    read = lt.parse_magnet_uri(link)
    say({"v2": str(read.info_hashes.v2), "name": read.name, "peers": [list(peer) for peer in read.peers]})


def make(name, data, core_bytes):
    with tempfile.TemporaryDirectory() as parent:
        folder = os.path.join(parent, name)
        os.mkdir(folder)
        files = lt.file_storage()
        for file, part in (("core.cbor", data[:core_bytes]), ("model.gguf", data[core_bytes:])):
            with open(os.path.join(folder, file), "wb") as out:
                out.write(part)
            files.add_file(os.path.join(name, file), len(part))
        torrent = lt.create_torrent(files, PIECE_BYTES, lt.create_torrent.v2_only)
        lt.set_piece_hashes(torrent, parent)
        made = torrent.generate()
        say({"info": lt.bencode(made[b"info"]).hex(), "layers": layers_in(made)})


if len(sys.argv) == 2:
    magnet(sys.argv[1])
elif len(sys.argv) == 4:
    make(sys.argv[2], sys.stdin.buffer.read(), int(sys.argv[3]))
else:
    load(sys.stdin.buffer.read())
