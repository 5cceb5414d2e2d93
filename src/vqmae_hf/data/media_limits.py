"""How much of what a file claims is believed, and the refusal of what is not.

No header, however damaged or hostile, shall make the process fill its memory or run for hours.
"""

from math import inf

from vqmae_hf.data.errors import UnreadableMediaError

# Cameras go up to DCI 8K. One such picture takes 106 MB as RGB.
LARGEST_PICTURE_PIXELS = 8192 * 4320
# OpenCV cannot warp pictures with a side of 2**15 or more.
LARGEST_PICTURE_SIDE = 2**14
# Pixels are squares or a little oblong (anamorphic film 2, DVD 0.89 to 1.42); a ratio beyond is taken for 1.
OBLONGEST_PIXEL = 4.0
# Frame rates of headers below and above are no rates: streams without one are often given their clock's 90 kHz.
SLOWEST_FRAME_RATE, FASTEST_FRAME_RATE = 1 / 60, 1000.0  # Hz
# Pictures further apart, or further back in time, are a broken clock: filling the time between would fill the memory.
LONGEST_PICTURE_SECONDS = 60.0
LONGEST_STEP_BACK_SECONDS = 1.0
# The filter that resamples grows with the ratio of the rates: to 4 GHz it takes gigabytes.
LOWEST_SAMPLING_RATE, HIGHEST_SAMPLING_RATE = 1_000, 768_000  # Hz
MOST_CHANNELS = 64
LONGEST_CLIP_SECONDS = 24 * 3600.0
# Pictures, crops or samples that a function returns in one piece: 26 minutes of 96 x 96 crops at 25 Hz, 4.6 hours of
# sound at 16 kHz.
LARGEST_RESULT_BYTES = 2**30
# Packets that may fail to decode after the first good one: these few, and this share of all packets so far. What they held
# is concealed: the picture before them stays, the sound pauses.
FEW_DAMAGED_PACKETS, DAMAGED_PACKET_SHARE = 3, 0.05

REENCODE = (
    "If it plays in a player, write it anew with ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4; otherwise leave it out"
)


def check_picture_size(source: str, width: int, height: int) -> None:
    """Refuse pictures larger than any camera makes.

    Raises:
        UnreadableMediaError: naming the file and the size.
    """
    if width * height > LARGEST_PICTURE_PIXELS or max(width, height) > LARGEST_PICTURE_SIDE:
        raise UnreadableMediaError.about(
            source,
            found=f"pictures of {width} x {height}",
            accepted=f"up to {LARGEST_PICTURE_PIXELS} pixels and {LARGEST_PICTURE_SIDE} pixels a side",
            remedy="If the file is not damaged, make it smaller with ffmpeg -i FILE -vf scale=-2:1080 NEW.mp4",
        )


def check_sound(source: str, sampling_rate: int, num_channels: int) -> None:
    """Refuse sound that no microphone records.

    Raises:
        UnreadableMediaError: naming the file, the rate and the channels.
    """
    if LOWEST_SAMPLING_RATE <= sampling_rate <= HIGHEST_SAMPLING_RATE and 1 <= num_channels <= MOST_CHANNELS:
        return
    raise UnreadableMediaError.about(
        source,
        found=f"sound of {num_channels} channels at {sampling_rate} Hz",
        accepted=f"1 to {MOST_CHANNELS} channels at {LOWEST_SAMPLING_RATE} to {HIGHEST_SAMPLING_RATE} Hz",
        remedy="If the file is not damaged, resample it with ffmpeg -i FILE -ar 16000 -ac 1 NEW.wav",
    )


def check_step(source: str, step: float, longest: float = inf) -> None:
    """Refuse a step between the time stamps of neighbours that no recorder makes.

    Args:
        source: name of the file.
        step: in seconds, negative for a step back.
        longest: in seconds; sound may pause for as long as it likes.

    Raises:
        UnreadableMediaError: naming the file and the step.
    """
    if not -LONGEST_STEP_BACK_SECONDS <= step <= longest:
        raise UnreadableMediaError.about(
            source,
            found=f"a jump of {step:.0f} seconds between two {'packets of sound' if longest == inf else 'pictures'}",
            accepted=f"steps forward of at most {longest:.0f} and back of {LONGEST_STEP_BACK_SECONDS:.0f} seconds",
            remedy=REENCODE,
        )


def check_interval(start_seconds: float, end_seconds: float | None) -> None:
    """Refuse a part of a clip that ends before it starts.

    Raises:
        ValueError: naming both ends.
    """
    if not 0 <= start_seconds <= (inf if end_seconds is None else end_seconds) or start_seconds == inf:
        raise ValueError(
            f"start_seconds, end_seconds: found {start_seconds} and {end_seconds}; accepted is 0 <= start <= end, in "
            "seconds from the start of the clip, or None for its end"
        )
