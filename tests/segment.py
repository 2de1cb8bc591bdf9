# SPDX-License-Identifier: BSD-3-Clause
"""Damage a segment file for a test, or look into it.

    segment.py get FILE FIELD
    segment.py set FILE FIELD VALUE     (a number, or hex:BYTES)
    segment.py resum FILE               (make the header's checksum right)
    segment.py resum-entry FILE
    segment.py flip FILE OFFSET [BIT]
    segment.py flip-entry FILE OFFSET [BIT]   (of snapshot entry 0)
    segment.py resum-point FILE INDEX
    segment.py set-changed FILE INDEX BIT     (of a point's changed bitmap)
    segment.py lose-changed FILE INDEX        (its record in the directory)
    segment.py hot FILE                 (which regions are hot)
    segment.py direct FILE              (how many reads were direct)

Fields of points are called pointINDEX.NAME.

The offsets are those of common/segment/layout.h, version 4.
"""

import re
import struct
import sys

FIELDS = {
    "magic": (0, "Q"), "version": (8, "I"), "struct_sizes": (12, "I"),
    "disk_size": (16, "Q"), "cluster_size": (24, "I"),
    "nr_clients": (28, "I"), "nr_slots": (32, "I"),
    "nr_snapshots": (36, "I"), "slot_buffer_size": (40, "I"),
    "nr_cells": (44, "I"), "nr_inflight": (48, "I"),
    "nr_bitmaps": (52, "I"), "nr_points": (56, "I"),
    "doorbell_offset": (64, "Q"), "slots_offset": (80, "Q"),
    "snapshots_offset": (96, "Q"), "directory_offset": (104, "Q"),
    "points_offset": (112, "Q"), "inflight_offset": (120, "Q"),
    "cells_offset": (128, "Q"), "bitmaps_offset": (136, "Q"),
    "bitmap_size": (144, "Q"), "geometry_sum": (152, "Q"),
    "compat": (176, "Q"), "incompat": (184, "Q"),
    "state": (192, "I"), "generation": (208, "Q"),
    "boot_id": (216, "16s"), "clean": (244, "I"), "source_local": (248, "I"),
    "durable": (252, "I"), "next_snapshot_id": (256, "Q"),
    "idle_threads": (320, "I"), "chain_generation": (448, "Q"),
    "alive": (456, "I"), "guests_write": (460, "I"),
    "unchanged_claims": (512, "Q"), "pending": (4096, "Q"),
    "direct40.requests": (5760, "Q"), "direct40.read_bytes": (5768, "Q"),
    "direct63.requests": (6128, "Q"), "direct63.read_bytes": (6136, "Q"),
    "lost.0": (4096 + 2048, "Q"), "slot0.state": (12288, "I"),
}
GEOMETRY = (16, 152)
ENTRY_FIELDS = {
    "entry.id": (0, "Q"), "entry.size": (8, "Q"),
    "entry.target_kind": (104, "I"), "entry.target_created": (108, "I"),
    "entry.target_device": (112, "Q"), "entry.target_inode": (120, "Q"),
    "entry.target": (128, "1024s"), "entry.sum": (1192, "Q"),
    "entry.state": (1216, "I"),
    "entry.job.kind": (1536, "I"), "entry.job.state": (1540, "I"),
}
ENTRY_SUMMED = 1192
POINT_FIELDS = {
    "id": (0, "Q"), "size": (8, "Q"), "created_ns": (16, "Q"),
    "uuid": (24, "16s"), "name": (40, "64s"), "flags": (104, "I"),
    "sum": (184, "Q"), "state": (192, "I"), "reason": (196, "I"),
}
POINT_SIZE = 256
POINT_SUMMED = 184
RECORD_SIZE = 64                # of the bitmap directory
RECORD_SUM = 40
CHANGED, OF_POINT = 4, 2        # kind of bitmap, and of its owner
HOT, OF_DISK = 5, 0


def fnv1a(data):
    s = 0xcbf29ce484222325
    for b in data:
        s = (s ^ b) * 0x100000001b3 % 2**64
    return s


def get(data, field):
    offset, kind = locate(data, field)
    v, = struct.unpack_from("=" + kind, data, offset)
    return "hex:" + v.hex() if isinstance(v, bytes) else v


def locate(data, field):
    if field in FIELDS:
        return FIELDS[field]
    match = re.fullmatch(r"point(\d+)\.(\w+)", field)
    if match:
        offset, kind = POINT_FIELDS[match[2]]
        return point(data, match[1]) + offset, kind
    offset, kind = ENTRY_FIELDS[field]
    return entry(data) + offset, kind


def entry(data):
    return struct.unpack_from("=Q", data, FIELDS["snapshots_offset"][0])[0]


def point(data, index):
    return get(data, "points_offset") + POINT_SIZE * int(index)


def changed_record(data, index):
    """Where the directory says where the changed bitmap of a point is."""
    directory = get(data, "directory_offset")
    for i in range(get(data, "nr_bitmaps")):
        record = directory + RECORD_SIZE * i
        if (struct.unpack_from("=4I", data, record) ==
                (1, CHANGED, OF_POINT, int(index))):
            return record
    sys.exit(f"point {index} has no changed bitmap")


def hot_regions(data):
    directory = get(data, "directory_offset")
    for i in range(get(data, "nr_bitmaps")):
        state, kind, of, owner, _, offset, size = struct.unpack_from(
            "=4I3Q", data, directory + RECORD_SIZE * i)
        if (state, kind, of) == (1, HOT, OF_DISK):
            bits = int.from_bytes(data[offset:offset + size], "little")
            return [n for n in range(bits.bit_length()) if bits >> n & 1]
    return []


def set_changed(path, data, index, bit):
    bitmap, = struct.unpack_from("=Q", data, changed_record(data, index) + 24)
    byte = bitmap + int(bit) // 8
    write(path, byte, bytes([data[byte] | 1 << int(bit) % 8]))


def write(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def put(path, data, field, value):
    offset, kind = locate(data, field)
    value = (bytes.fromhex(value[4:]) if value.startswith("hex:")
             else int(value, 0))
    write(path, offset, struct.pack("=" + kind, value))


def flip(path, data, offset, bit=0):
    write(path, offset, bytes([data[offset] ^ 1 << bit]))


def direct_reads(data):
    """The sum over the client table (CBW_DIRECT_COUNTERS_OFFSET)."""
    doorbell = get(data, "doorbell_offset")
    return sum(struct.unpack_from("=Q", data, doorbell + 1024 + 16 * i)[0]
               for i in range(get(data, "nr_clients")))


def main(command, path, *args):
    with open(path, "rb") as f:
        data = f.read()
    if command == "get":
        print(get(data, args[0]))
    elif command == "set":
        put(path, data, *args)
    elif command == "resum":
        put(path, data, "geometry_sum", str(fnv1a(data[slice(*GEOMETRY)])))
    elif command == "resum-entry":
        e = entry(data)
        put(path, data, "entry.sum", str(fnv1a(data[e:e + ENTRY_SUMMED])))
    elif command == "resum-point":
        p = point(data, args[0])
        put(path, data, f"point{args[0]}.sum",
            str(fnv1a(data[p:p + POINT_SUMMED])))
    elif command == "set-changed":
        set_changed(path, data, *args)
    elif command == "lose-changed":
        flip(path, data, changed_record(data, args[0]) + RECORD_SUM)
    elif command == "flip":
        flip(path, data, *map(int, args))
    elif command == "flip-entry":
        flip(path, data, entry(data) + int(args[0]), *map(int, args[1:]))
    elif command == "hot":
        print(*hot_regions(data))
    elif command == "direct":
        print(direct_reads(data))
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
