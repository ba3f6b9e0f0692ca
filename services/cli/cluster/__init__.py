"""A local Kafka for the demo and the tests."""
