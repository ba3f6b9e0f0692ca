"""The chart on a real API server with its controllers, its pods as processes of this machine: `make k8s-test`."""
