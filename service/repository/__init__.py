"""Models on disk: folders, manifests, checksums. Knows files, not runtimes."""
