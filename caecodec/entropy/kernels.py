"""The coder of FORMAT.md, 5 and 7, as Triton kernels that code many streams at once, one program for each stream.

A stream is decoded symbol by symbol, so it takes as long as its chain of look-ups; a GPU hides this latency behind the other
streams. All arithmetic is in integers. A program reads what the programs of neighbouring streams wrote to the same image, so
if an image has several streams, each launch does one channel.

The arrays are on the device and hold N payloads of the same shape with B streams each; R rows of `width` latents, P = R width:

    index       (N, M, P)       the entries in row order; uint8 for context coding
    features    (N, 2 M, P)     int8, the magnitude and 3x3 sum of each channel
    cumulative  (entries,)      int32, the sums of masses below each entry of each table
    row         (M, K)          int32, where the table of each class begins in `cumulative`; K = 1 for static coding
    length      (M,)            int32, the number of entries of a channel's tables
    mode        (M,)            int32, the entry to try first, not the last one
    weight      (M, 2 M)        int32, the weights of the features
    threshold   (M, K - 1)      int32, the predictions at which classes begin
    count       (N,)            int32, the number of coded channels
"""

import triton
import triton.language as tl

TOTAL = tl.constexpr(2**24)
CLIP = tl.constexpr(8)
TILE = tl.constexpr(16)  # features whose products are summed at once


@triton.jit
def _measure(index, features, payload, channel, start, stop, channels, size, height, width, block: tl.constexpr):
    """Compute magnitudes and 3x3 sums of one channel at the positions [start, stop) of a stream."""
    plane = index + (payload * channels + channel) * size
    out = features + (payload * channels + channel) * 2 * size
    for first in range(start, stop, block):
        at = first + tl.arange(0, block)
        inside = at < stop
        image_row = (at // width) % height
        column = at % width
        above = tl.where(image_row == 0, 0, -width)
        below = tl.where(image_row == height - 1, 0, width)
        left = tl.where(column == 0, 0, -1)
        right = tl.where(column == width - 1, 0, 1)
        own = _magnitude(plane + at, inside)
        total = own + _magnitude(plane + at + left, inside) + _magnitude(plane + at + right, inside)
        total += _magnitude(plane + at + above, inside) + _magnitude(plane + at + below, inside)
        total += _magnitude(plane + at + above + left, inside) + _magnitude(plane + at + above + right, inside)
        total += _magnitude(plane + at + below + left, inside) + _magnitude(plane + at + below + right, inside)
        tl.store(out + at, own.to(tl.int8), mask=inside)
        tl.store(out + size + at, total.to(tl.int8), mask=inside)


@triton.jit
def _magnitude(entries, inside):
    return tl.minimum((tl.load(entries, mask=inside, other=0).to(tl.int32) + 1) // 2, CLIP)


@triton.jit
def _tables(
    features, weight, threshold, row, payload, channel, at, inside, channels, size, classes, padded_classes: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Compute where the table of each position begins."""
    known = features + payload * channels * 2 * size
    prediction = tl.zeros([block], tl.int32)
    for first in range(0, 2 * channel, TILE):
        which = first + tl.arange(0, TILE)
        there = which < 2 * channel
        factor = tl.load(weight + channel * 2 * channels + which, mask=there, other=0)
        both = there[:, None] & inside[None, :]
        feature = tl.load(known + which.to(tl.int64)[:, None] * size + at[None, :], mask=both, other=0).to(tl.int32)
        prediction += tl.sum(feature * factor[:, None], axis=0)
    which = tl.arange(0, padded_classes)
    level = tl.load(threshold + channel * (classes - 1) + which, mask=which < classes - 1, other=TOTAL)
    kind = tl.sum((level[None, :] <= prediction[:, None]).to(tl.int32), axis=1)
    return tl.load(row + channel * classes + kind, mask=inside, other=0)


@triton.jit(
    do_not_specialize=["first_channel", "last_channel", "channels", "total_rows", "height", "width", "bands", "classes"]
)
def decode(
    words, begin, left, state, index, features, rows, cumulative, row, length, mode, weight, threshold, count,
    first_channel, last_channel, channels, total_rows, height, width, bands, classes,
    context: tl.constexpr, padded_classes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Decode channels [first_channel, last_channel) of every stream into index, which must hold zeros.

    words, begin : int32, the words of all streams; (streams,) int64, the first word of each
    left, state : (streams,) int32 and int64, the words not yet read, and the coder's state; both are 0 after an intact stream
    rows : (N, P) int32, scratch
    """
    stream = tl.program_id(0)
    payload = (stream // bands).to(tl.int64)
    band = (stream % bands).to(tl.int64)
    size = total_rows.to(tl.int64) * width
    start = total_rows * band // bands * width
    stop = total_rows * (band + 1) // bands * width
    word = words + tl.load(begin + stream)
    remaining = tl.load(left + stream)
    x = tl.load(state + stream).to(tl.uint64, bitcast=True)
    if first_channel == 0:
        if remaining > 0:
            remaining -= 1
            x = tl.load(word + remaining).to(tl.uint32, bitcast=True).to(tl.uint64)
        if remaining > 0:
            remaining -= 1
            x = (x << 32) | tl.load(word + remaining).to(tl.uint32, bitcast=True).to(tl.uint64)
    upcoming = tl.load(word + tl.maximum(remaining - 1, 0))
    place = rows + payload * size
    for channel in range(first_channel, tl.minimum(last_channel, tl.load(count + payload))):
        if context:
            if channel > 0:
                _measure(index, features, payload, channel - 1, start, stop, channels, size, height, width, block)
                tl.debug_barrier()
            for first in range(start, stop, block):
                at = first + tl.arange(0, block)
                inside = at < stop
                found = _tables(
                    features,
                    weight,
                    threshold,
                    row,
                    payload,
                    channel,
                    at,
                    inside,
                    channels,
                    size,
                    classes,
                    padded_classes,
                    block,
                )
                tl.store(place + at, found, mask=inside)
            tl.debug_barrier()
            table = tl.load(place + start)
            following = tl.load(place + tl.minimum(start + 1, stop - 1))
        else:
            table = tl.load(row + channel)
            following = table
        entries = tl.load(length + channel)
        middle = tl.load(mode + channel)
        next_low = tl.load(cumulative + table + middle)
        next_high = tl.load(cumulative + table + middle + 1)
        out = index + (payload * channels + channel) * size
        for at in range(start, stop):
            # Load what does not depend on the state one position ahead, so that nothing waits for it.
            low = next_low
            high = next_high
            sums = cumulative + table
            table = following
            if context:
                following = tl.load(place + tl.minimum(at + 2, stop - 1))
                next_low = tl.load(cumulative + table + middle)
                next_high = tl.load(cumulative + table + middle + 1)
            entry = middle
            rest = (x & 0xFFFFFF).to(tl.int32)
            if (rest < low) | (rest >= high):
                bottom = tl.where(rest < low, 0, middle + 1)
                top = tl.where(rest < low, middle, entries)
                new_low = tl.where(rest < low, 0, high)
                high = tl.where(rest < low, low, TOTAL)
                low = new_low
                while top - bottom > 1:
                    half = (bottom + top) // 2
                    value = tl.load(sums + half)
                    if value <= rest:
                        bottom = half
                        low = value
                    else:
                        top = half
                        high = value
                entry = bottom
            tl.store(out + at, entry)
            x = (high - low).to(tl.uint64) * (x >> 24) + (rest - low).to(tl.uint64)
            if (x < 0x100000000) & (remaining > 0):
                x = (x << 32) | upcoming.to(tl.uint32, bitcast=True).to(tl.uint64)
                remaining -= 1
                upcoming = tl.load(word + tl.maximum(remaining - 1, 0))
        tl.debug_barrier()
    tl.store(left + stream, remaining)
    tl.store(state + stream, x.to(tl.int64, bitcast=True))


@triton.jit(do_not_specialize=["channels", "total_rows", "height", "width", "bands"])
def measure(index, features, channels, total_rows, height, width, bands, block: tl.constexpr):
    """Compute the features of all channels from a complete index (N, M, P); one program for each stream and channel."""
    stream = tl.program_id(0)
    payload = (stream // bands).to(tl.int64)
    band = (stream % bands).to(tl.int64)
    start = total_rows * band // bands * width
    stop = total_rows * (band + 1) // bands * width
    size = total_rows.to(tl.int64) * width
    _measure(index, features, payload, tl.program_id(1), start, stop, channels, size, height, width, block)


@triton.jit(do_not_specialize=["channels", "total_rows", "width", "bands", "classes"])
def choose(
    index, features, low, mass, cumulative, row, length, weight, threshold, channels, total_rows, width, bands, classes,
    context: tl.constexpr, padded_classes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Look up the sum of masses below each entry, and its mass (N, M, P) int32; one program for each stream and channel."""
    stream = tl.program_id(0)
    channel = tl.program_id(1)
    payload = (stream // bands).to(tl.int64)
    band = (stream % bands).to(tl.int64)
    start = total_rows * band // bands * width
    stop = total_rows * (band + 1) // bands * width
    size = total_rows.to(tl.int64) * width
    plane = (payload * channels + channel) * size
    last = tl.load(length + channel) - 1
    for first in range(start, stop, block):
        at = first + tl.arange(0, block)
        inside = at < stop
        if context:
            table = _tables(
                features, weight, threshold, row, payload, channel, at, inside, channels, size, classes, padded_classes, block
            )
        else:
            table = tl.zeros([block], tl.int32) + tl.load(row + channel)
        entry = tl.load(index + plane + at, mask=inside, other=0).to(tl.int32)
        bottom = tl.load(cumulative + table + entry, mask=inside, other=0)
        top = tl.load(cumulative + table + entry + 1, mask=inside & (entry < last), other=TOTAL)
        tl.store(low + plane + at, bottom, mask=inside)
        tl.store(mass + plane + at, top - bottom, mask=inside)


@triton.jit(do_not_specialize=["channels", "total_rows", "width", "bands"])
def encode(low, mass, count, words, written, channels, total_rows, width, bands):
    """Encode all symbols of every stream, the last one first.

    words : int32, stream after stream, with room for one word per symbol and two more per stream
    written : (streams,) int32, the number of words of each stream
    """
    stream = tl.program_id(0)
    payload = (stream // bands).to(tl.int64)
    band = (stream % bands).to(tl.int64)
    size = total_rows.to(tl.int64) * width
    start = total_rows * band // bands * width
    stop = total_rows * (band + 1) // bands * width
    out = words + payload * channels * size + channels * start + 2 * stream
    x = tl.zeros([], tl.uint64)
    done = 0
    coded = tl.load(count + payload)
    for backwards in range(coded):
        plane = (payload * channels + coded - 1 - backwards) * size
        next_low = tl.load(low + plane + stop - 1)
        next_mass = tl.load(mass + plane + stop - 1)
        for step in range(1, stop - start + 1):
            bottom = next_low.to(tl.uint64)
            share = next_mass.to(tl.uint64)
            before = tl.maximum(stop - 1 - step, start)
            next_low = tl.load(low + plane + before)
            next_mass = tl.load(mass + plane + before)
            if x >= share << 40:
                tl.store(out + done, (x & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True))
                done += 1
                x = x >> 32
            quotient = x // share
            x = (quotient << 24) + (x - quotient * share) + bottom
    if x > 0:
        tl.store(out + done, (x & 0xFFFFFFFF).to(tl.uint32).to(tl.int32, bitcast=True))
        done += 1
    if x >= 0x100000000:
        tl.store(out + done, (x >> 32).to(tl.uint32).to(tl.int32, bitcast=True))
        done += 1
    tl.store(written + stream, done)
