"""The caecodec command, with one file for each subcommand."""
