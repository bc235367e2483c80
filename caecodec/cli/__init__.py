"""The caecodec command: one file a subcommand."""
