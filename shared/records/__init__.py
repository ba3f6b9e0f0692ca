"""What travels on Kafka: one module a record, its codec, the topics."""
