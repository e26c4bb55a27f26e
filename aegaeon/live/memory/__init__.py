"""Weight arenas, host weight cache, KV arena and host KV pool; torch, no vllm (section 5)."""
