"""What must hold whatever is killed, stopped or cut off: real processes on real Kafka."""
