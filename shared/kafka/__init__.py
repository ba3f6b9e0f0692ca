"""The only place that imports aiokafka: clients, transactions, partition workers, admin."""
