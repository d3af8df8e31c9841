"""Does a vector fitted on one model steer another of the same shape: the same weights in another precision, another
checkpoint, a fine-tuned copy? Every target is asked the same items again; what the vector did at home is not
taken over.

Retention is ``effect there / effect at home`` on the same items, in log-odds of the right answer where the model gives
them, because accuracy also changes with where the unsteered model stands: near an even chance a small shift of all
log-odds takes half of the items over the line. Beside it stands a vector fitted anew on the target, at the same
hook points and dose: what the target could have at best by this method.
"""
