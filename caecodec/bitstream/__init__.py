"""Payloads as bytes: headers, sections, checksums (FORMAT.md). It knows no network and no codec."""
