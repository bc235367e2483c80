"""PNG and JPEG files without what is not needed for their pixels: text, EXIF, profiles.

Libraries refuse a whole file for metadata that they cannot read, such as a text that is too long for them. What is left here
decodes to the same pixels; frames of an animation stay, so that they are not lost without a word.
"""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT")
_JPEG, _SCAN = b"\xff\xd8", 0xDA
_JFIF, _ADOBE, _LAST_APPLICATION, _COMMENT = 0xE0, 0xEE, 0xEF, 0xFE


def without_metadata(data: bytes) -> bytes | None:
    """The file with these bytes, without its metadata; None if it is neither PNG nor JPEG, or none of it is metadata."""
    if data.startswith(_PNG):
        found = _png(data)
    elif data.startswith(_JPEG):
        found = _jpeg(data)
    else:
        return None
    return None if found == data else found


def _png(data: bytes) -> bytes:
    parts, position = [_PNG], len(_PNG)
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in _PNG_CHUNKS:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)


def _jpeg(data: bytes) -> bytes:
    parts, position = [_JPEG], len(_JPEG)
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _SCAN:
        marker = data[position + 1]
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in (_JFIF, _ADOBE) or not (_JFIF < marker <= _LAST_APPLICATION or marker == _COMMENT):
            parts.append(data[position:end])
        position = end
    return b"".join([*parts, data[position:]])
