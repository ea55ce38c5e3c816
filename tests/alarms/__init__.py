"""The alarm rules, tried with Prometheus's own tools: each rings when it must, and is silent when all is well."""
