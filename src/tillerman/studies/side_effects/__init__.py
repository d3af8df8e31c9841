"""What a vector costs at every strength: perplexity and KL on neutral text (CAE, arXiv 2505.03189, finding 4),
accuracy on an unrelated task, and how generated texts change: n-gram entropy (STA, arXiv 2505.20322, section 4.1),
repetition, distinct bigrams, length. And the largest strength that stays within a budget.
"""
