"""The container of a payload: header, streams, escapes, checksum (FORMAT.md). It knows no network."""
