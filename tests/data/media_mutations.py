"""Ways in which media files come to harm, by accident or on purpose; everything from a seed."""

import io
from collections.abc import Callable
from functools import cache

import av
import numpy as np
from media_by_hand import BIT_EXACT, CODINGS, numbered_frames, tone, write_coded

# Numbers that programs trip over: nothing, one, signs, all ones, absurd sizes and rates.
HOSTILE_NUMBERS = (0, 1, 2, 255, 60_000, 90_000, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
# Fields that say how large, how many, how fast and how long, by the bytes that they follow; (offset, width) from there.
MP4_FIELDS = {
    b"mvhd": ((12, 4), (16, 4), (20, 4)),
    b"tkhd": ((12, 4), (20, 4), (40, 4), (44, 4), (76, 4), (80, 4)),
    b"mdhd": ((12, 4), (16, 4)),
    b"hdlr": ((8, 4),),
    b"elst": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"avc1": ((24, 2), (26, 2), (28, 4)),
    b"mp4v": ((24, 2), (26, 2)),
    b"mp4a": ((16, 2), (18, 2), (24, 4)),
    b"sowt": ((16, 2), (18, 2), (24, 4)),
    b"avcC": ((1, 4), (8, 4), (12, 4)),
    b"esds": ((4, 4), (12, 4), (24, 4)),
    b"stts": ((4, 4), (8, 4), (12, 4)),
    b"ctts": ((4, 4), (8, 4), (12, 4)),
    b"stsz": ((4, 4), (8, 4), (12, 4)),
    b"stsc": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"stco": ((4, 4), (8, 4)),
}
MATROSKA_FIELDS = {
    b"\x2a\xd7\xb1": ((1, 3),),  # nanoseconds of a tick
    b"\x44\x89": ((1, 4), (1, 8)),  # duration
    b"\x23\xe3\x83": ((1, 4),),  # nanoseconds of a picture
    b"\x83\x81": ((0, 1),),  # kind of track
    b"\x86": ((1, 4),),  # name of the coding
    b"\xe0": ((1, 4), (4, 4)),  # pictures
    b"\xe1": ((1, 4), (4, 4)),  # sound
    b"\xb0": ((0, 3),),  # width
    b"\xba": ((0, 3),),  # height
    b"\xb5": ((1, 4), (1, 8)),  # sampling rate
    b"\x9f": ((1, 1),),  # channels
    b"\xa3": ((0, 1), (1, 4), (3, 2)),  # a block: size, track, time
    b"\x1f\x43\xb6\x75": ((0, 8),),  # cluster
}
WAV_FIELDS = {
    b"RIFF": ((0, 4),),
    b"fmt ": ((0, 4), (4, 2), (6, 2), (8, 4), (12, 4), (16, 2), (18, 2)),
    b"data": ((0, 4),),
}
AVI_FIELDS = WAV_FIELDS | {
    b"avih": ((4, 4), (20, 4), (28, 4), (36, 4), (40, 4)),
    b"strh": ((4, 4), (8, 4), (24, 4), (28, 4), (32, 4), (36, 4)),
    b"strf": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"idx1": ((0, 4), (12, 4), (16, 4)),
    b"00dc": ((0, 4),),
    b"01wb": ((0, 4),),
}
MPEG_FIELDS = {
    b"\x00\x00\x01\xba": ((0, 4), (4, 4)),  # clock
    b"\x00\x00\x01\xe0": ((0, 2), (5, 4), (10, 4)),  # pictures: length, time stamps
    b"\x00\x00\x01\xc0": ((0, 2), (5, 4)),  # sound
    b"\x00\x00\x01\xb3": ((0, 1), (0, 2), (1, 2), (3, 1)),  # width, height, shape of pixels and rate
    b"\x00\x00\x01\xb5": ((0, 4),),
}
FIELDS = {
    "mp4": MP4_FIELDS,
    "mov": MP4_FIELDS,
    "m4a": MP4_FIELDS,
    "mkv": MATROSKA_FIELDS,
    "webm": MATROSKA_FIELDS,
    "wav": WAV_FIELDS,
    "avi": AVI_FIELDS,
    "mpg": MPEG_FIELDS,
}


@cache
def base_files() -> dict[str, bytes]:
    """Small whole clips: suffix -> content, 0.6 s of 96 x 32 pixels and a tone."""
    files = {}
    for suffix, coding in CODINGS.items():
        target = io.BytesIO()
        waveform = np.interp(np.arange(28_800) / 48_000, np.arange(9_600) / 16_000, tone(0.6))
        write_coded(target, coding, numbered_frames(15), waveform)
        files[suffix] = target.getvalue()
    return files


def mutated(content: bytes, suffix: str, kind: str, rng: np.random.Generator) -> bytes:
    """Harm the content of a file in one of the `KINDS`."""
    if kind == "hostile_header":
        return _hostile_fields(content, FIELDS.get(suffix), rng)
    if kind in ("packets", "streams"):
        return _rewritten(content, CODINGS.get(suffix, CODINGS["mpg"]).container, kind, rng)
    return BYTE_KINDS[kind](content, rng)


def _flip_bits(content: bytes, rng: np.random.Generator, within: int | None = None) -> bytes:
    array = np.frombuffer(content, np.uint8).copy()
    count = int(2 ** rng.uniform(0, 8))
    places = rng.integers(0, min(len(array), within or len(array)), count)
    np.bitwise_xor.at(array, places, (1 << rng.integers(0, 8, count)).astype(np.uint8))
    return array.tobytes()


def _flip_bits_of_the_start(content: bytes, rng: np.random.Generator) -> bytes:
    return _flip_bits(content, rng, within=1024)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(len(content) * rng.random())]


def _overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    low, high = _span(content, rng)
    fill = bytes(high - low) if rng.random() < 0.3 else rng.integers(0, 256, high - low, dtype=np.uint8).tobytes()
    return content[:low] + fill + content[high:]


def _delete(content: bytes, rng: np.random.Generator) -> bytes:
    low, high = _span(content, rng)
    return content[:low] + content[high:]


def _duplicate(content: bytes, rng: np.random.Generator) -> bytes:
    low, high = _span(content, rng)
    return content[:high] + content[low:high] * int(rng.integers(1, 20)) + content[high:]


def _swap(content: bytes, rng: np.random.Generator) -> bytes:
    a, b, c = sorted(rng.integers(0, len(content), 3).tolist())
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _splice(content: bytes, rng: np.random.Generator) -> bytes:
    files = base_files()
    other = files[sorted(files)[rng.integers(len(files))]]
    return content[: int(rng.integers(len(content)))] + other[int(rng.integers(len(other))) :]


def _span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    low = int(rng.integers(len(content)))
    return low, min(len(content), low + int(len(content) ** rng.uniform(0.2, 0.9)) + 1)


def _hostile_fields(
    content: bytes, fields: dict[bytes, tuple[tuple[int, int], ...]] | None, rng: np.random.Generator
) -> bytes:
    """Write absurd numbers into one to three fields of the header; anywhere at its start in unknown containers."""
    array = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        places = _field_places(content, fields, rng)
        place, width = places[rng.integers(len(places))]
        number = int(rng.choice(HOSTILE_NUMBERS)) if rng.random() < 0.7 else int(rng.integers(2**32))
        order = "little" if fields in (WAV_FIELDS, AVI_FIELDS) else "big"
        array[place : place + width] = (number % 256**width).to_bytes(width, order)
    return bytes(array[: len(content)])


def _field_places(
    content: bytes, fields: dict[bytes, tuple[tuple[int, int], ...]] | None, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """(place, width) of the fields that follow one of the known marks."""
    present = [mark for mark in fields or () if mark in content]
    if not present:
        return [(int(rng.integers(min(512, len(content) - 8))), int(rng.choice([1, 2, 4])))]
    mark = present[rng.integers(len(present))]
    starts, start = [], content.find(mark)
    while start >= 0 and len(starts) < 50:
        starts.append(start + len(mark))
        start = content.find(mark, start + 1)
    start = starts[rng.integers(len(starts))]
    return [(start + offset, width) for offset, width in fields[mark]]


def _rewritten(content: bytes, container: str, kind: str, rng: np.random.Generator) -> bytes:
    """Put the packets of a file into a new one, some of them changed; what a muxer refuses ends the file there."""
    target = io.BytesIO()
    try:
        with av.open(io.BytesIO(content)) as source, av.open(target, "w", container, BIT_EXACT) as output:
            streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
            packets = [packet for packet in source.demux() if packet.size]
            for packet in PACKET_KINDS[kind](packets, rng):
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    except (av.FFmpegError, ValueError):
        pass
    return target.getvalue()


def _harmed_packets(packets: list[av.Packet], rng: np.random.Generator) -> list[av.Packet]:
    """Drop, shuffle, or give other times to some packets."""
    share, choice = rng.uniform(0, 0.6), rng.integers(4)
    if choice == 0:
        return [packet for packet in packets if rng.random() > share]
    if choice == 1:
        first = int(rng.integers(len(packets)))
        packets[first : first + 20] = [packets[first + i] for i in rng.permutation(len(packets[first : first + 20]))]
        return packets
    for packet in packets:
        if rng.random() < share and packet.pts is not None:
            ticks = round(float(rng.choice([-100, -1, 0.3, 100, 1e5, 1e8])) / float(packet.time_base))
            packet.pts += ticks
            if choice == 2:
                packet.dts = packet.pts
    return packets


def _swapped_streams(packets: list[av.Packet], rng: np.random.Generator) -> list[av.Packet]:
    """Give packets to the other stream, from some moment on or at random; or leave a stream without packets."""
    streams = {packet.stream.index: packet.stream for packet in packets}
    moment, choice = int(rng.integers(len(packets))), rng.integers(3)
    if choice == 2:
        return [packet for packet in packets if packet.stream.index != moment % len(streams)]
    for index, packet in enumerate(packets):
        if index >= moment and (choice == 0 or rng.random() < 0.3):
            packet.stream = streams[(packet.stream.index + 1) % len(streams)]
    return packets


BYTE_KINDS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "bits": _flip_bits,
    "bits_of_the_start": _flip_bits_of_the_start,
    "truncated": _truncate,
    "overwritten": _overwrite,
    "deleted": _delete,
    "duplicated": _duplicate,
    "swapped": _swap,
    "spliced": _splice,
}
PACKET_KINDS = {"packets": _harmed_packets, "streams": _swapped_streams}
KINDS = ("hostile_header", *PACKET_KINDS, *BYTE_KINDS)
