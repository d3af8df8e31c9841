"""Can a user's text turn the answer round? A text at the end of the question, found by EPO (arXiv 2402.01702), is to
reverse the steered answer (CAE, arXiv 2505.03189, finding 3). Beside it: texts drawn at random, stretches of other
questions, and the same attack on the model that a prompt brings to the same answers.
"""
