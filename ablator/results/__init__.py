"""What finished trials leave: the ledger (durable, exactly once) and its mirror in MLflow."""
