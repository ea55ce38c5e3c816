"""The pages, one module a subject: each reads, asks the operations, and hands values to a template."""
