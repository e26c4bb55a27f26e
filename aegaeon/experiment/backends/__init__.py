"""What carries a plan out: the backends and measurements that a configuration may name."""
