"""Integer latents <-> coded streams. An entropy model is one file here and one wire id in bitstream/codings.py."""
