"""What stands between tokens and a Vision Transformer: patch embedding, positions, and the two tokenizers."""
