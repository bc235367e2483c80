"""What several test modules share: paths, images, networks. Fixtures are in conftest.py."""
