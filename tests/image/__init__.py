"""The image as the Dockerfile makes it, on its own Debian and Python; run by `make image-test`."""
