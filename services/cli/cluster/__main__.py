"""Run `python -m services.cli.cluster …`, as the set-up does before anything else is there."""

from services.cli.cluster.commands import cluster

if __name__ == "__main__":
    cluster(prog_name="postyard cluster")
