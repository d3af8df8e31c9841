"""Where the vector works: items as they were fitted on, the same items asked in other ways, other sources of the
same behaviour, other behaviours (CAE, arXiv 2505.03189, finding 1: reliable only in distribution)."""
